"""Faces of a finished picture painted anew, each as its person. In: IMAGE, people, what a sampler needs. Out: IMAGE in which
nothing else has changed.
"""
