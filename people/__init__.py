"""People as values. In: photos, or files of saved people. Out: `Person`, what travels along PERSON; its blends; and a MODEL and
CONDITIONING with one person or several in one picture.
"""
