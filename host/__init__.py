"""ComfyUI around the pack: its server, its progress bar, its Cancel button. In: what the server and the user ask for.
Out: calls of functions that other modules have registered. Imports nothing else of the pack.
"""
