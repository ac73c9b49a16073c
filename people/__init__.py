"""People as values. In: photos, or files of saved people. Out: `Person`, the value of PERSON links; its blends; and a MODEL and
CONDITIONING with one person or several in one picture.
"""
