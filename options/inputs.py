"""Declarations of inputs and outputs that several nodes share, and the messages about inputs."""

import folder_paths

from ..caches import file_key
from ..host import server
from ..identity import usable_mask

INSTANTID = ("INSTANTID", {"tooltip": "The adapter. Connect Load InstantID Model."})
FACE_ANALYSIS = ("FACEANALYSIS", {"tooltip": "The face networks. Connect InstantID Face Analysis."})
CONTROL_NET = ("CONTROL_NET", {"tooltip": (
    "IdentityNet, InstantID's own ControlNet for SDXL. Connect Load ControlNet Model with InstantID's ControlNet file.")})
PHOTOS = ("IMAGE", {"tooltip": (
    "One or more photos of the person. If a photo shows several faces, the largest one is used; InstantID Options can choose "
    "another one.")})
DRAWING = "IMAGE,KEYPOINTS"  # the type of image_kps: a drawing, or what is drawn
MODEL = ("MODEL", {"tooltip": "An SDXL model."})
POSITIVE = ("CONDITIONING", {"tooltip": "The prompt. Connect CLIP Text Encode."})
NEGATIVE = ("CONDITIONING", {"tooltip": "The negative prompt. Connect CLIP Text Encode."})
# The first inputs, in the order of the outputs: a bypassed node hands on the input at the index of an output.
PASSED_ON = {"model": MODEL, "positive": POSITIVE, "negative": NEGATIVE}
MASK = ("MASK", {"tooltip": "The part of the picture in which the person appears. Without a mask: the whole picture."})
MASK_OF_PROMPT = ("MASK", {"tooltip": (
    "The part of the picture in which the person appears. As in the original, it limits the whole positive prompt, too: "
    "outside of it nothing says what to paint. Join the output positive with the plain prompt in Conditioning (Combine), or "
    "use Apply InstantID (Several People), in which a mask limits the person alone. Without a mask: the whole picture.")})
OPTIONS = ("INSTANTID_OPTIONS", {"tooltip": (
    "Further settings from InstantID Options: which face of a photo, what to do without a face, which blocks of the model. "
    "Without it, the node works as the original does.")})


def state_of_files(kind, name):
    """Returns a text that changes when the file of a name is replaced, for IS_CHANGED.

    kind: of ComfyUI's folders. name: None where the widget is an input from another node: any file of the kind may be meant.
    """
    names = folder_paths.get_filename_list(kind) if name is None else [name]
    paths = [folder_paths.get_full_path(kind, each) for each in names]
    return str([file_key(path) for path in paths if path is not None])


def number(default, low, high, step, tooltip):
    """Returns the declaration of a FLOAT input."""
    return ("FLOAT", {"default": default, "min": low, "max": high, "step": step, "tooltip": tooltip})


START = number(0.0, 0.0, 1.0, 0.001, (
    "When InstantID begins to act, as a part of the sampling from 0 to 1. A later start leaves the prompt more freedom in the "
    "composition."))
END = number(1.0, 0.0, 1.0, 0.001, "When InstantID stops acting, as a part of the sampling from 0 to 1.")
NOISE = ("FLOAT", {"default": 0.0, "min": 0.0, "max": 1.0, "step": 0.05, "round": 0.01, "tooltip": (
    "Gives the negative pass random noise instead of an empty face. A value around 0.35 helps against burnt colours.")})

IP_WEIGHT = number(0.8, 0.0, 3.0, 0.01, "The strength of the likeness.")
CN_STRENGTH = number(0.8, 0.0, 10.0, 0.01, (
    "The strength of IdentityNet: how closely place and pose of the face are followed."))
COMBINE_EMBEDS = (["average", "norm average", "concat"], {"default": "average", "tooltip": (
    "How several photos become one person. average: the mean of the faces. norm average: a mean in which every number of a "
    "face is scaled first. concat: the model sees every photo.")})

# tooltips of the outputs of the nodes that apply persons
APPLY_OUTPUTS = (
    "The model with the person. Connect it to the sampler.", "The prompt with IdentityNet. Connect it to the sampler.",
    "The negative prompt with IdentityNet. Connect it to the sampler.")


def report_no_effect(start_at, end_at, mask=None, limits_prompt=False):
    """Tells the user which settings leave the person, or the prompt, without effect.

    start_at, end_at: the part of the sampling, 0 to 1; the original accepts an empty one, and saved workflows may hold it.
    mask: as `usable_mask` takes it, or None. limits_prompt: whether it limits the positive prompt as well as the person.
    """
    if start_at > end_at:
        server.say_on_node(f"No effect: start_at {start_at:g} is after end_at {end_at:g}. Set start_at below end_at.")
    if mask is None:
        return
    covered = usable_mask(mask) != 0
    if not covered.any():
        hidden = "the person and the positive prompt have" if limits_prompt else "the person has"
        server.tell(f"The mask is empty, so {hidden} no effect. Load Image gives an empty mask for every picture without "
                    "transparency. Disconnect the mask, or draw the person's place in the Mask Editor.")
    elif limits_prompt and not covered.all():
        server.say_on_node("The mask limits the whole positive prompt. If nothing else covers the rest of the picture, join "
                           "the output positive with the plain prompt in Conditioning (Combine), or use Apply InstantID "
                           "(Several People), in which a mask limits the person alone.")


def report_missing_faces(photos):
    """Tells the user which photos (`faces.Photos`) are left out because they show no face."""
    if missing := photos.describe_missing():
        server.tell(f"{missing}: left out.")


def is_off(options):
    """Returns whether InstantID Options switches a node off, and says so on the node."""
    if not options.enabled:
        server.say_on_node("Switched off in InstantID Options: this node changes nothing.")
    return not options.enabled


def bypass(options, error):
    """Says on the node that it hands on its inputs because of a NoFaceError; raises that unless no_face is "bypass"."""
    if options.no_face != "bypass":
        raise error
    server.tell(f"Bypassed: this node changes nothing. {error}")
