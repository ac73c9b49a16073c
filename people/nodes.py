"""The nodes that make people of photos, save, load, blend and apply them."""

import os

import einops
import folder_paths
import torch

from .. import performance
from ..faces import Photos
from ..host import server
from ..identity import usable_adapter
from ..keypoints import drawn, usable_keypoints
from ..options import inputs
from ..options.nodes import DEFAULTS
from ..utils import InstantIDError
from . import files
from .advice import advise
from .apply import Target, apply_identity, apply_people
from .blend import METHODS, blend
from .person import person_of_photos
from .places import PersonInPicture, Settings, hint_of_person

CATEGORY = "InstantID/people"
FOLDER = "instantid_people"  # ComfyUI's kind of the folders that hold saved people
PERSON = ("PERSON", {"tooltip": "A person. Connect InstantID Person from Photos or InstantID Load Person."})
WEIGHT_TOOLTIP = "How much of this person is in the blend. Only the ratio of the weights counts."


def _shown(person):
    """Returns the result of a node with a person, and the crops that ComfyUI shows on it."""
    if person.crops is None:
        return {"ui": {"text": (f"{person.photos} photo{'s' * (person.photos != 1)}",)}, "result": (person,)}
    from nodes import PreviewImage
    return {**PreviewImage().save_images(person.crops.float() / 255, "InstantIDPerson"), "result": (person,)}


class InstantIDPerson:
    DESCRIPTION = ("Makes a person of one or more photos. The person can be saved, blended with others, and put into pictures, "
                   "alone or with others. Several photos of the same person give a better likeness.")
    CATEGORY = CATEGORY
    SEARCH_ALIASES = ["face embedding", "photos to person", "faceid", "character", "reference face", "photo quality",
                      "人物", "人脸"]
    RETURN_TYPES = ("PERSON",)
    RETURN_NAMES = ("person",)
    OUTPUT_TOOLTIPS = ("The person, for Apply InstantID (Person), InstantID Save Person or InstantID Blend People.",)
    FUNCTION = "make"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"insightface": inputs.FACE_ANALYSIS, "image": inputs.PHOTOS},
                "optional": {"options": inputs.OPTIONS}}

    @performance.staged("Person from Photos")
    def make(self, insightface, image, options=DEFAULTS):
        images = image if isinstance(image, list | tuple) else [image]
        batches = [Photos(insightface, each, **options.photo_arguments) for each in images]
        person = person_of_photos(*batches)
        for photos in batches:
            inputs.report_missing_faces(photos)
        for sentence in advise(pair for photos in batches for pair in zip(photos.pictures, photos.chosen, strict=True)):
            server.tell(sentence)
        return _shown(person)


class InstantIDSavePerson:
    DESCRIPTION = ("Saves a person as a file in the folder models/instantid_people. InstantID Load Person loads it later, "
                   "without the photos and without InsightFace.")
    CATEGORY = CATEGORY
    SEARCH_ALIASES = ["save face", "save embedding", "face model", "character library", "保存人物"]
    RETURN_TYPES = ("PERSON",)
    RETURN_NAMES = ("person",)
    OUTPUT_TOOLTIPS = ("The same person.",)
    FUNCTION = "save"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {
            "person": PERSON,
            "name": ("STRING", {"default": "person", "tooltip": "The name of the file, without a folder or an ending."}),
            "keep_crops": ("BOOLEAN", {"default": True, "tooltip": (
                "Keeps a small picture of each face in the file, which InstantID Load Person shows. Turn it off to share a "
                "file without pictures.")}),
            "if_exists": (list(files.IF_EXISTS), {"default": files.IF_EXISTS[0], "tooltip": (
                "What happens if a person of this name is saved already. new number: name_2, name_3 and so on. replace: the "
                "older file is lost. error: the run stops.")}),
        }}

    @classmethod
    def VALIDATE_INPUTS(cls, name=None):
        """Returns True, or the reason to refuse a prompt. name is None where the widget is a link."""
        try:
            return bool(files.file_name("person" if name is None else name))
        except InstantIDError as error:
            return str(error)

    def save(self, person, name, keep_crops=True, if_exists=files.IF_EXISTS[0]):
        path = files.save_person(person, folder_paths.get_folder_paths(FOLDER)[0], name, if_exists, keep_crops)
        return {"ui": {"text": (f"Saved as {os.path.basename(path)}.",)}, "result": (person,)}


class InstantIDLoadPerson:
    DESCRIPTION = ("Loads a person that InstantID Save Person has saved, and shows the faces as soon as you choose it. Neither "
                   "the photos nor InsightFace are needed. New files appear in the list after a refresh of the browser's node "
                   "definitions (key R).")
    CATEGORY = CATEGORY
    SEARCH_ALIASES = ["load face", "saved face", "face model", "character library", "person preview", "加载人物"]
    RETURN_TYPES = ("PERSON",)
    RETURN_NAMES = ("person",)
    OUTPUT_TOOLTIPS = ("The person, for Apply InstantID (Person), InstantID Place Person or InstantID Blend People.",)
    FUNCTION = "load"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"person": (folder_paths.get_filename_list(FOLDER), {
            "tooltip": "A file in the folder models/instantid_people."})}}

    @classmethod
    def IS_CHANGED(cls, person):
        """Returns the state of the file: a replaced file is loaded again."""
        return inputs.state_of_files(FOLDER, person)

    def load(self, person):
        return {"result": (files.load_person(folder_paths.get_full_path_or_raise(FOLDER, person)),)}


class InstantIDBlendPeople:
    DESCRIPTION = ("Blends two, three or four people into one, or finds the photos of one person that do not fit the others. "
                   "The keypoints are those of the first person.")
    CATEGORY = CATEGORY
    SEARCH_ALIASES = ["mix faces", "blend faces", "merge faces", "average face", "face ratio", "混合人脸"]
    RETURN_TYPES = ("PERSON",)
    RETURN_NAMES = ("person",)
    OUTPUT_TOOLTIPS = ("The blended person.",)
    FUNCTION = "blend"

    @classmethod
    def INPUT_TYPES(cls):
        weight = inputs.number(0.5, 0.0, 10.0, 0.01, WEIGHT_TOOLTIP)
        return {
            "required": {
                "person_a": PERSON, "weight_a": weight, "weight_b": weight,
                "method": (list(METHODS), {"default": METHODS[0], "tooltip": (
                    "average: the weighted mean. spherical: for two people, an even way from one to the other. robust average: "
                    "the mean of all photos without those that show somebody else or are too different.")}),
            },
            "optional": {
                "person_b": PERSON, "person_c": PERSON, "person_d": PERSON, "weight_c": weight, "weight_d": weight,
            },
        }

    def blend(self, person_a, weight_a, weight_b, method, person_b=None, person_c=None, person_d=None, weight_c=0.5,
              weight_d=0.5):
        given = {"person_a": (person_a, weight_a), "person_b": (person_b, weight_b), "person_c": (person_c, weight_c),
                 "person_d": (person_d, weight_d)}
        given = {name: pair for name, pair in given.items() if pair[0] is not None}
        people, weights = zip(*given.values(), strict=True)
        blended = blend(people, weights, method)
        if blended.left_out:
            names = list(given)
            photos = ", ".join(f"photo {photo + 1} of {names[number]}" for number, photo in blended.left_out)
            server.tell(f"Left out, because the face is too different from the others: {photos}.")
        return (blended.person,)


class ApplyInstantIDPerson:
    DESCRIPTION = ("Puts a person into the pictures of an SDXL model. It is Apply InstantID Advanced with a person in place of "
                   "photos, and gives the same pictures.")
    CATEGORY = CATEGORY
    SEARCH_ALIASES = ["likeness", "saved face", "consistent character", "face id", "same person", "肖像", "人脸", "一致性"]
    RETURN_TYPES = ("MODEL", "CONDITIONING", "CONDITIONING")
    RETURN_NAMES = ("MODEL", "positive", "negative")
    OUTPUT_TOOLTIPS = inputs.APPLY_OUTPUTS
    FUNCTION = "apply"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                **inputs.PASSED_ON, "instantid": inputs.INSTANTID, "person": PERSON, "control_net": inputs.CONTROL_NET,
                "ip_weight": inputs.IP_WEIGHT, "cn_strength": inputs.CN_STRENGTH,
                "start_at": inputs.START, "end_at": inputs.END, "noise": inputs.NOISE,
                "combine_embeds": inputs.COMBINE_EMBEDS,
            },
            "optional": {
                "image_kps": (inputs.DRAWING, {"tooltip": (
                    "Where the face is and how it looks: keypoints, or a drawing of keypoints, which is used as it is. Without "
                    "it, the pose of the person's first photo is used.")}),
                "mask": inputs.MASK_OF_PROMPT, "options": inputs.OPTIONS,
            },
        }

    @performance.staged("Apply InstantID")
    def apply(self, model, positive, negative, instantid, person, control_net, ip_weight=0.8, cn_strength=0.8, start_at=0.0,
              end_at=1.0, noise=0.0, combine_embeds="average", image_kps=None, mask=None, options=DEFAULTS):
        if inputs.is_off(options):
            return model, positive, negative
        inputs.report_no_effect(start_at, end_at, mask, limits_prompt=True)
        one = PersonInPicture(person, Settings(ip_weight, cn_strength, start_at, end_at, mask))
        target = Target(usable_adapter(instantid), control_net, model, positive, negative)
        identity = target.identity_of_photos(person.references, noise, combine_embeds, options.each_latent)
        return apply_identity(target, identity, hint_of_person(one, drawn(image_kps)), one.settings, options)


class InstantIDPeople:
    DESCRIPTION = ("Adds a person to a list of people for one picture. Connect one InstantID Place Person for each person, "
                   "each to the input people of the next, and the last one to Apply InstantID (Several People).")
    CATEGORY = CATEGORY
    SEARCH_ALIASES = ["several people", "two people", "multiple faces", "couple", "group picture", "regional",
                      "prompt for each person", "多人", "合影"]
    RETURN_TYPES = ("INSTANTID_PEOPLE",)
    RETURN_NAMES = ("people",)
    OUTPUT_TOOLTIPS = ("The list, for the next InstantID Place Person or for Apply InstantID (Several People).",)
    FUNCTION = "add"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {"person": PERSON, "ip_weight": inputs.IP_WEIGHT, "cn_strength": inputs.CN_STRENGTH,
                         "start_at": inputs.START, "end_at": inputs.END},
            "optional": {
                "mask": ("MASK", {"tooltip": (
                    "The part of the picture in which this person appears; the prompt acts everywhere. If nobody in "
                    "the list has a mask, the picture is divided from left to right.")}),
                "keypoints": ("KEYPOINTS", {"tooltip": (
                    "Where this person's face is and how it looks: the first face of these keypoints. Without them, the pose "
                    "of the person's first photo is placed in the person's part of the picture.")}),
                "people": ("INSTANTID_PEOPLE", {"tooltip": "The people so far: InstantID Place Person of the person before."}),
            },
        }

    def add(self, person, ip_weight=0.8, cn_strength=0.8, start_at=0.0, end_at=1.0, mask=None, keypoints=None, people=()):
        if keypoints is not None:
            usable_keypoints(keypoints)
        inputs.report_no_effect(start_at, end_at, mask)
        return ((*people, PersonInPicture(person, Settings(ip_weight, cn_strength, start_at, end_at, mask), keypoints)),)


class ApplyInstantIDPeople:
    DESCRIPTION = ("Puts several people into one picture of an SDXL model, each in a part of it. IdentityNet runs once a step, "
                   "however many people there are. With one person without a mask it gives the same picture as Apply InstantID "
                   "Advanced.")
    CATEGORY = CATEGORY
    SEARCH_ALIASES = InstantIDPeople.SEARCH_ALIASES
    RETURN_TYPES = ApplyInstantIDPerson.RETURN_TYPES
    RETURN_NAMES = ApplyInstantIDPerson.RETURN_NAMES
    OUTPUT_TOOLTIPS = ("The model with the people. Connect it to the sampler.", *inputs.APPLY_OUTPUTS[1:])
    FUNCTION = "apply"

    @classmethod
    def INPUT_TYPES(cls):
        side = {"default": 1024, "min": 64, "max": 16384, "step": 8}
        return {
            "required": {
                **inputs.PASSED_ON, "instantid": inputs.INSTANTID, "control_net": inputs.CONTROL_NET,
                "people": ("INSTANTID_PEOPLE", {"tooltip": "The people. Connect the last InstantID Place Person."}),
                "noise": inputs.NOISE,
                "width": ("INT", {**side, "tooltip": (
                    "The width of the picture to be made. It only counts if there are neither masks nor keypoints.")}),
                "height": ("INT", {**side, "tooltip": (
                    "The height of the picture to be made. It only counts if there are neither masks nor keypoints.")}),
            },
            "optional": {
                "image_kps": (inputs.DRAWING, {"tooltip": (
                    "Everybody's keypoints, or a drawing of them, which is used as it is. Without it, the faces are drawn "
                    "where the keypoints and masks of InstantID Place Person say.")}),
                "options": inputs.OPTIONS,
            },
        }

    @performance.staged("Apply InstantID")
    def apply(self, model, positive, negative, instantid, control_net, people, noise=0.0, width=1024, height=1024,
              image_kps=None, options=DEFAULTS):
        if inputs.is_off(options):
            return model, positive, negative
        if len(people) > 1 and not options.each_latent and all(one.settings.mask is None for one in people):
            server.tell(f"No masks are given, so each of the {len(people)} people gets a part of the picture, from left to "
                        "right by the places of the faces. Connect a mask to InstantID Place Person to choose the parts.")
        if any("area" in limits or limits.get("set_area_to_bounds") for _, limits in (*positive, *negative)):
            server.tell("A prompt is limited to an area, in which all faces would be painted once more, smaller. Limit it with "
                        "Conditioning (Set Mask) and set_cond_area at default.")
        target = Target(usable_adapter(instantid), control_net, model, positive, negative)
        return apply_people(target, people, noise, drawn(image_kps), options, width, height)


PATH = "/instantid_swift/person"
MOST_CROPS = 12  # that a preview shows
COLUMNS = 4


def preview_of(name):
    """Returns the crops of a saved person side by side, as a PNG file's bytes; None without crops, or where the name is none of
    the drop-down's."""
    import cv2
    if name not in folder_paths.get_filename_list(FOLDER):
        return None
    crops = files.read_crops(folder_paths.get_full_path(FOLDER, name), MOST_CROPS)
    if crops is None:
        return None
    columns = min(len(crops), COLUMNS)
    rows = torch.cat([crops, crops.new_zeros(-len(crops) % columns, *crops.shape[1:])])
    picture = einops.rearrange(rows.numpy(), "(y x) h w c -> (y h) (x w) c", x=columns)
    return cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1].tobytes()


async def _answer(request):
    from aiohttp import web
    png = preview_of(request.query.get("name"))
    return web.Response(status=404) if png is None else web.Response(body=png, content_type="image/png")


def add_route():
    """Adds the route of InstantID Load Person's preview to ComfyUI's server. To be called while the pack is imported."""
    server.add_route("get", PATH, _answer)


NODES = {
    InstantIDPerson: "InstantID Person from Photos",
    InstantIDSavePerson: "InstantID Save Person",
    InstantIDLoadPerson: "InstantID Load Person",
    InstantIDBlendPeople: "InstantID Blend People",
    ApplyInstantIDPerson: "Apply InstantID (Person)",
    InstantIDPeople: "InstantID Place Person",
    ApplyInstantIDPeople: "Apply InstantID (Several People)",
}
