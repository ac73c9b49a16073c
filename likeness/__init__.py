"""The likeness of pictures to a person. In: pictures, and photos or a PERSON. Out: cosines of face embeddings, reports, sweeps
of one setting. `measure` and `report` import without ComfyUI.
"""
