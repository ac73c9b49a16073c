"""Keypoints to conditionings. In: CONDITIONING, IdentityNet (InstantID's ControlNet), drawn keypoints and identity tokens. Out:
CONDITIONING that carries IdentityNet, with what never changes in a run computed once, or with some steps left out.
"""

from .conditioning import apply_identity_net, check_reads_people

__all__ = ["apply_identity_net", "check_reads_people"]
