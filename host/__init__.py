"""ComfyUI around the pack: its server, the texts on its nodes, its progress bar and Cancel button, other packs. In: requests of
the server and the user. Out: calls of functions that other modules have registered. Imports nothing else of the pack.
"""
