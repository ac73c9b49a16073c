"""Keypoints to conditionings. In: CONDITIONING, IdentityNet (InstantID's ControlNet), drawn keypoints and identity tokens. Out:
CONDITIONING that carries IdentityNet, whose constants are computed once in a run, and whose steps may be left out.
"""

from .conditioning import apply_identity_net, check_reads_people

__all__ = ["apply_identity_net", "check_reads_people"]
