"""The node that paints the faces of finished pictures anew."""

import torch
from nodes import KSampler

from .. import performance
from ..CrossAttentionPatch import AttentionPatch
from ..faces import LARGEST, NoFaceError, Photos
from ..host import server
from ..identity import usable_adapter
from ..keypoints import usable_keypoints
from ..likeness.measure import ANOTHER, cosine
from ..likeness.report import aligned, with_prose
from ..options import inputs
from ..options.nodes import DEFAULTS
from ..people.apply import Target
from ..people.nodes import PERSON
from ..people.places import Settings
from ..utils import InstantIDError
from .assign import BY_LIKENESS, WHO, assign_people, directions_of, place_faces
from .crops import crop_of
from .sample import Painting, paint_faces

SAMPLER = ("seed", "steps", "cfg", "sampler_name", "scheduler")  # widgets of KSampler
HEAD = ("picture", "face", "person", "size", "before", "after", "")
COUNTED = "All are counted from 0, faces from left to right."


class InstantIDRefineFaces:
    DESCRIPTION = ("Paints the faces of a finished picture anew, each as its person: small faces become sharp and more "
                   "like it, or faces of other people are replaced. It finds the faces, enlarges them, samples all of them in "
                   "one run and pastes them back. The rest of the picture stays as it is.")
    CATEGORY = "InstantID"
    SEARCH_ALIASES = ["face detailer", "facedetailer", "adetailer", "face swap", "swap faces", "refine", "small faces",
                      "fix faces", "face restore", "second pass", "inpaint faces", "group picture", "enhance faces",
                      "换脸", "修脸", "人脸修复"]
    RETURN_TYPES = ("IMAGE", "MASK", "FLOAT", "STRING")
    RETURN_NAMES = ("IMAGE", "MASK", "likeness", "report")
    OUTPUT_TOOLTIPS = ("The pictures with the new faces.", "What was painted anew, one mask for each picture.",
                       "The likeness of each painted face to its person, afterwards: a list of numbers, picture by picture, "
                       "from left to right.",
                       "All faces as a table: whose they are, how large, and their likeness before and after.")
    FUNCTION = "refine"

    @classmethod
    def INPUT_TYPES(cls):
        sampler = KSampler.INPUT_TYPES()["required"]
        before = "from before any Apply InstantID, as this node applies the people itself."
        return {
            "required": {
                "image": ("IMAGE", {"tooltip": "The pictures whose faces are painted anew."}),
                "model": ("MODEL", {"tooltip": f"An SDXL model, {before}"}),
                "positive": ("CONDITIONING", {"tooltip": (
                    f"A prompt for each single face, such as 'photo of a face', {before}")}),
                "negative": ("CONDITIONING", {"tooltip": f"The negative prompt, {before}"}),
                "vae": ("VAE", {"tooltip": "The VAE of the SDXL checkpoint."}),
                "instantid": inputs.INSTANTID, "insightface": inputs.FACE_ANALYSIS, "control_net": inputs.CONTROL_NET,
                **{name: (sampler[name][0], {**sampler[name][1], "tooltip": "As in KSampler."}) for name in SAMPLER},
                "denoise": inputs.number(0.4, 0.01, 1.0, 0.01, (
                    "How much of each face is new. 0.3 to 0.5 makes a face sharp and more like its person, 0.7 and more "
                    "replaces it by that person.")),
                "face_size": ("INT", {"default": 768, "min": 128, "max": 2048, "step": 8, "tooltip": (
                    "The size in pixels at which a face and what is around it are painted. A larger size takes longer.")}),
                "padding": inputs.number(1.8, 1.0, 8.0, 0.05, (
                    "How much around a face is seen while it is painted: the side of the square that is cut out, over the "
                    "longer side of the face. The outer half of that margin is seen, but not painted.")),
                "feather": inputs.number(0.1, 0.0, 0.5, 0.01, (
                    "The width of the soft edge of what is pasted, as a part of the square's side. 0 gives a hard edge.")),
                "ip_weight": inputs.IP_WEIGHT, "cn_strength": inputs.CN_STRENGTH,
                "who": (WHO, {"default": BY_LIKENESS, "tooltip": (
                    "Which face becomes which person. by likeness: each person is the face that is most like it; faces like "
                    "nobody stay as they are. left to right: the first person is the leftmost face, and so on; further faces "
                    "stay as they are. everybody is the first person: all faces.")}),
                "leave_above": inputs.number(1.0, 0.0, 1.0, 0.01, (
                    "Faces with at least this likeness to their person stay as they are. At 1 none of them does, at 0 all "
                    "do.")),
            },
            "optional": {
                "person": (PERSON[0], {"tooltip": "The person, if there is one only. Connect InstantID Person from Photos."}),
                "people": ("INSTANTID_PEOPLE", {"tooltip": (
                    "The people, if there are several. Connect the last InstantID Place Person. Only who they are counts here, "
                    "not their weights, masks and keypoints.")}),
                "options": ("INSTANTID_OPTIONS", {"tooltip": (
                    "From InstantID Options: whether small faces are looked for, what to do if a picture shows no face, which "
                    "blocks of the model see the people.")}),
                "keypoints": ("KEYPOINTS", {"tooltip": (
                    "The faces to paint, in place of those that are found: where they are in the picture, and how they look. "
                    "They are used for every picture of a batch.")}),
            },
        }

    @performance.staged("Refine Faces")
    def refine(self, image, model, positive, negative, vae, instantid, insightface, control_net, denoise=0.4, face_size=768,
               padding=1.8, feather=0.1, ip_weight=0.8, cn_strength=0.8, who=BY_LIKENESS, leave_above=1.0, person=None,
               people=None, options=DEFAULTS, keypoints=None, **sampler):
        if inputs.is_off(options):
            return _unchanged(image, "Switched off in InstantID Options: the pictures go on unchanged.")
        people = _people_of(person, people)
        target = Target(usable_adapter(instantid), control_net, model, positive, negative)
        if vae is None:
            raise InstantIDError("There is no VAE: the checkpoint holds none. Connect Load VAE with a VAE for SDXL.")
        photos = Photos(insightface, image, **{**options.photo_arguments, "choice": LARGEST})  # all faces count
        try:
            placed = _placed(photos, keypoints)
        except NoFaceError as error:
            inputs.bypass(options, error)
            return _unchanged(image, f"Bypassed: the pictures go on unchanged. {error}")
        directions = directions_of(people, photos)
        every = [face for faces in placed for face in assign_people(faces, photos, directions, who)]
        crops = [crop_of(face, photos.size, padding) for face in every if face.is_to_be_painted(leave_above)]
        crops = [crop for crop in crops if not crop.is_hidden]
        if not crops:
            text = f"{_describe_nothing(photos, every)} The pictures go on unchanged."
            server.tell(text)
            return _unchanged(image, text, _report(every, len(people)) if every else "")
        _tell_of_inputs(model, max(crop.side for crop in crops), face_size)
        used = [crop.face.person for crop in crops]
        identities = {index: target.identity_of_photos(people[index].references) for index in set(used)}
        painting = Painting(target, vae, Settings(ip_weight, cn_strength), options, face_size // 8 * 8, feather,
                            {**sampler, "denoise": denoise})
        painted, mask = paint_faces(image, crops, [identities[index] for index in used], painting)
        after = Photos(insightface, painted)
        values = {crop.face[:2]: cosine(after.embed(crop.face.picture, crop.face.keypoints), directions[crop.face.person])
                  for crop in crops}
        text = _report(every, len(people), values)
        return {"ui": {"text": [text]}, "result": (painted, mask, list(values.values()), text)}


def _people_of(person, people):
    """Returns the list of Person of the two inputs, of which one must be given."""
    if (person is None) == (not people):
        found = "Neither person nor people is" if person is None else "Both person and people are"
        raise InstantIDError(f"{found} connected. Connect one of them: person for one, people for several.")
    return [one.person for one in people] if person is None else [person]


def _placed(photos, keypoints):
    """Returns what `place_faces` does. NoFaceError if each picture must show a face, and one shows none."""
    placed = place_faces(photos, None if keypoints is None else usable_keypoints(keypoints))
    if photos.require_all and [] in placed:
        photos.raise_no_face()
    if any(placed) and not all(placed):
        inputs.report_missing_faces(photos)
    return placed


def _tell_of_inputs(model, largest, face_size):
    """Tells the user what makes faces worse: people in the model already, and crops that are shrunk. largest: pixels."""
    patches = model.model_options["transformer_options"].get("patches_replace", {}).get("attn2", {})
    if any(isinstance(patch, AttentionPatch) for patch in patches.values()):
        server.tell("The model shows a person of InstantID already, who mixes with the people given here. Connect the model "
                    "and the prompts from before the Apply node.")
    if largest > face_size:
        server.tell(f"A face is cut out with {largest} pixels a side and painted with {face_size}, so it may lose sharpness. "
                    "Set face_size higher, or leave_above lower.")


def _unchanged(image, text, table=""):
    """Returns the node's result with the given pictures as they are. text, table: the report."""
    text = "\n\n".join(filter(None, (with_prose([], text), table)))
    return {"ui": {"text": [text]}, "result": (image, torch.zeros(image.shape[:3]), [], text)}


def _describe_nothing(photos, faces):
    """Returns a sentence that says why no face is painted."""
    if not faces:
        return photos.describe_no_face()
    if all(face.person is None for face in faces):
        return (f"No face is like a person: the largest likeness is {max(face.before for face in faces):.2f}, and {ANOTHER} is "
                "needed. Choose another way in who to put people in the place of others.")
    return "Every face with a person is like enough to it for leave_above, or another face hides it."


def _report(faces, people, after=()):
    """Returns all faces as a table. people: their number. after: {(picture, number): cosine} of the painted ones."""
    rows = [HEAD]
    for face in faces:
        painted = face[:2] in after
        rows.append((str(face.picture), str(face.number), "nobody" if face.person is None else str(face.person),
                     f"{face.size} px", f"{face.before:.3f}", f"{after[face[:2]]:.3f}" if painted else "-",
                     "painted" if painted else "left as it is"))
    missing = sorted(set(range(people)) - {face.person for face in faces})
    notes = [f"Without a face: person {', '.join(map(str, missing))}."] if missing else []
    return with_prose(aligned(rows), COUNTED, *notes)
