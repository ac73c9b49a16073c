"""Nodes that look at faces, measure likeness, and sweep one setting."""

import torch
from comfy.utils import ProgressBar
from comfy_execution.graph_utils import ExecutionBlocker, GraphBuilder, is_link
from nodes import KSampler, PreviewImage

from .. import caches, faces, performance
from ..faces.analysis import find_embedder
from ..host import server
from ..options import inputs
from ..options.nodes import DEFAULTS
from ..people.advice import advise
from ..people.nodes import ApplyInstantIDPerson
from ..people.person import Person, embedder_name
from ..utils import InstantIDError
from . import measure, report, sweep

CATEGORY = "InstantID/likeness"
PICTURES = ("IMAGE", {"tooltip": "The pictures, such as those of VAE Decode. Each is looked at once, in one batch."})


def shown(text, *pictures):
    """Returns the `ui` of a node that shows a text and pictures (IMAGE), which are saved as ComfyUI's temporary files."""
    images = [one for picture in pictures for one in PreviewImage().save_images(picture, "InstantID")["ui"]["images"]]
    return {"text": [text], "images": images}


class InstantIDFaces:
    DESCRIPTION = ("Shows every face that is found in a picture, with its number as face_index of InstantID Options counts it. "
                   "A table tells its size in pixels and how certain the detector is. The face that is used is green.")
    CATEGORY = CATEGORY
    SEARCH_ALIASES = ["detect faces", "face index", "which face", "face bounding box", "face mask", "number faces",
                      "select face", "photo quality", "人脸检测", "人脸"]
    RETURN_TYPES = ("IMAGE", "INT", "BOUNDING_BOX", "MASK")
    RETURN_NAMES = ("preview", "count", "box", "mask")
    OUTPUT_TOOLTIPS = ("The pictures with the numbered faces.", "How many faces all pictures show together.",
                       "The box around the face that is used, grown by padding. Of several pictures it is that of the first "
                       "one that shows it.",
                       "The same box as a mask, one for each picture. It is black where a picture does not show the face.")
    FUNCTION = "show"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "insightface": inputs.FACE_ANALYSIS,
                "image": ("IMAGE", {"tooltip": "The pictures in which faces are looked for."}),
                "padding": ("INT", {"default": 0, "min": 0, "max": 4096, "tooltip": (
                    "Grows the box and the mask by so many pixels on each side.")}),
            },
            "optional": {"options": inputs.OPTIONS},
        }

    @performance.staged("Faces")
    def show(self, insightface, image, padding=0, options=DEFAULTS):
        photos, number = faces.Photos(insightface, image, **options.photo_arguments), options.choice.index
        listed = [options.choice.sort(found, photos.size) for found in photos.found]
        used = [found[number] if number < len(found) else None for found in listed]
        boxes = [None if face is None else report.bounding_box(face, photos.size, padding) for face in used]
        preview = torch.cat([report.number_faces(one, found, number) for one, found in zip(image, listed, strict=True)])
        text = report.faces_text(listed, number, options.choice.order, *advise(zip(photos.pictures, used, strict=True)))
        box = next((box for box in boxes if box is not None), None)
        if box is None:
            box = ExecutionBlocker(f"InstantID Faces: no picture shows a face {number}, so there is no box.")
        masks = torch.stack([report.mask_of(one, photos.size) for one in boxes])
        return {"ui": shown(text, preview), "result": (preview, sum(map(len, listed)), box, masks)}


class InstantIDLikeness:
    DESCRIPTION = ("Measures how like the faces of pictures are to a person, from -1 to 1, and hands on the best pictures. The "
                   "number is the cosine of face embeddings, as research on identity measures it. A picture without a face "
                   "gets no number.")
    CATEGORY = CATEGORY
    SEARCH_ALIASES = ["face similarity", "face distance", "identity score", "arcface cosine", "keep best picture",
                      "select best", "compare faces", "相似度", "人脸比对"]
    RETURN_TYPES = ("IMAGE", "FLOAT", "STRING")
    RETURN_NAMES = ("pictures", "likeness", "report")
    OUTPUT_TOOLTIPS = ("The pictures, best first. Nothing that follows runs if none is left.",
                       "The likeness of these pictures, best first: a list of numbers.",
                       "All numbers as a table, and what they mean.")
    FUNCTION = "measure"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "insightface": inputs.FACE_ANALYSIS, "image": PICTURES,
                "reference": ("IMAGE,PERSON", {"tooltip": (
                    "Whom the pictures should be like: one or more photos of the person, or a person. In photos with several "
                    "faces the largest one counts; connect InstantID Person from Photos to choose another one.")}),
                "keep_best": ("INT", {"default": 0, "min": 0, "max": 4096, "tooltip": (
                    "How many pictures go on, best first. 0: all that have a number.")}),
                "minimum": inputs.number(-1.0, -1.0, 1.0, 0.01, "Pictures with a smaller likeness are left out."),
            },
            "optional": {
                "options": ("INSTANTID_OPTIONS", {"tooltip": (
                    "From InstantID Options: which face of each picture is measured, and whether small faces are looked "
                    "for.")}),
                "second_opinion": ("FACEANALYSIS", {"tooltip": (
                    "Other face networks, for a second number beside the first one. The order stays that of the first.")}),
            },
        }

    @performance.staged("Likeness")
    def measure(self, insightface, image, reference, keep_best=0, minimum=-1.0, options=DEFAULTS, second_opinion=None):
        photos = faces.Photos(insightface, image, **options.photo_arguments)
        measured = measure.likeness(photos, _reference(insightface, reference, **options.search), second_opinion)
        kept = measured.best(keep_best, minimum)
        text = report.report_text(measured, kept)
        if not kept:
            server.tell("No picture goes on: none shows a face with a likeness of at least "
                        f"{minimum:g}. Lower minimum, or look at the report.")
        pictures = image[kept] if kept else ExecutionBlocker(None)
        values = [measured.values[index] for index in kept]
        return {"ui": {"text": [text]}, "result": (pictures, values, text)}


def _reference(insightface, reference, **reading):
    """Returns a Person unchanged, an IMAGE as `faces.Photos` with the given keyword arguments."""
    return reference if isinstance(reference, Person) else faces.Photos(insightface, reference, **reading)


def _widgets(node, *names):
    """Returns inputs as another node declares them: {name: declaration}."""
    declared = node.INPUT_TYPES()["required"]
    return {name: declared[name] for name in names}


class InstantIDSweep:
    DESCRIPTION = ("Makes pictures with several values of one setting and several seeds, and finds the value with the best "
                   "likeness. It does what Apply InstantID Advanced, KSampler and VAE Decode do, once for each value and seed. "
                   "ComfyUI keeps the pictures: a value more costs its own pictures only.")
    CATEGORY = CATEGORY
    SEARCH_ALIASES = ["xy plot", "find the weight", "best weight", "compare settings", "parameter sweep", "grid", "参数对比"]
    RETURN_TYPES = ("IMAGE", "IMAGE", "FLOAT", "IMAGE", "STRING")
    RETURN_NAMES = ("sheet", "chart", "best", "pictures", "report")
    OUTPUT_TOOLTIPS = ("All pictures with their values, seeds and numbers: a column for each value, a row for each seed.",
                       "The likeness over the values: the mean of the seeds, and how far they spread.",
                       "The value with the best mean likeness. Of block selections: its place in the list, from 0.",
                       "All pictures, value by value.", "All numbers as a table.")
    FUNCTION = "sweep"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls):
        own = {"cfg": {"default": 4.5}, "noise": {"default": 0.35},
               **dict.fromkeys(("denoise", "start_at", "end_at", "combine_embeds"), {"advanced": True})}
        sampler = {name: (kind, {"tooltip": "As in KSampler.", **options})
                   for name, (kind, options) in _widgets(KSampler, *sweep.SAMPLER_WIDGETS).items()}
        widgets = {name: (kind, {**options, **own.get(name, {})})
                   for name, (kind, options) in {**sampler, **_widgets(ApplyInstantIDPerson, *sweep.APPLY_WIDGETS)}.items()}
        return {
            "required": {
                "instantid": inputs.INSTANTID, "insightface": inputs.FACE_ANALYSIS, "control_net": inputs.CONTROL_NET,
                "image": inputs.PHOTOS, "model": inputs.MODEL, "positive": inputs.POSITIVE, "negative": inputs.NEGATIVE,
                "latent_image": ("LATENT", {"tooltip": "The latent of the picture's size. Connect Empty Latent Image."}),
                "vae": ("VAE", {"tooltip": "The VAE that decodes the pictures. Connect Load Checkpoint."}),
                "setting": (sweep.SETTINGS, {"default": "weight", "tooltip": (
                    "What is varied. weight: ip_weight and cn_strength together, as in Apply InstantID. step reuse: `every` of "
                    "InstantID Step Reuse. blocks: the block selections of InstantID Options.")}),
                "values": ("STRING", {"default": "0.4 to 1.0 step 0.2", "tooltip": (
                    "The values with commas between, or a range. Examples: 0.4, 0.6, 0.8 or 0.4 to 1.0 step 0.2. For blocks: "
                    "as original, all 70")}),
                "seeds": ("STRING", {"default": "1, 2", "tooltip": (
                    "The seeds with commas between. One seed says little: likeness differs from seed to seed.")}),
                **widgets,
            },
            "optional": {
                "image_kps": (inputs.DRAWING, {"tooltip": "Where the face is and how it looks, as in Apply InstantID."}),
                "mask": ("MASK", {"tooltip": (
                    "The part of the picture in which the person appears. As in Apply InstantID Advanced, it limits the whole "
                    "positive prompt, too.")}),
                "options": inputs.OPTIONS,
                "reference": ("IMAGE,PERSON", {"tooltip": (
                    "Whom the pictures are compared with, if not with the photos: other photos of the person, or a person.")}),
            },
            "hidden": {"dynprompt": "DYNPROMPT", "unique_id": "UNIQUE_ID"},
        }

    @classmethod
    def VALIDATE_INPUTS(cls, setting=None, values=None, seeds=None):
        """Returns True, or the reason to refuse a prompt. An argument is None where the widget is a link."""
        try:
            return None in (setting, values, seeds) or bool(sweep.parse_cells(setting, values, seeds))
        except InstantIDError as error:
            return str(error)

    def sweep(self, insightface, image, setting, values, seeds, dynprompt, unique_id, options=DEFAULTS, reference=None,
              **given):
        cells = sweep.parse_cells(setting, values, seeds)
        if setting == sweep.BLOCKS and options != DEFAULTS:
            raise InstantIDError("Block selections cannot be varied with InstantID Options connected, which chooses one "
                                 "itself. Take the link off.")
        person = _reference(insightface, image if reference is None else reference, choice=options.choice,
                            **options.search)
        measure.embeddings_of(person, embedder_name(find_embedder(insightface)))  # refuses what cannot be measured in the end
        links = {name: value for name, value in dynprompt.get_node(unique_id)["inputs"].items() if is_link(value)}
        for name in sweep.NEEDED_LINKS:
            if name not in links:
                raise InstantIDError(f"The input {name} has no link. Connect the node that makes it.")
        # ComfyUI drops the pictures of a sweep that has not run, as in an unchanged run
        shared = caches.identity_key([insightface, image, setting, options, given])
        kept = {cells.key(*pair): picture for pair in cells.pairs
                if (picture := caches.sweeps.look_up((shared, *pair))) is not None}
        graph = GraphBuilder()
        pictures = sweep.add_cells(graph, cells, links, {name: given[name] for name in sweep.APPLY_WIDGETS},
                                   {name: given[name] for name in sweep.SAMPLER_WIDGETS}, kept)
        optional = {"options": links["options"]} if "options" in links else {}
        made = graph.node(InstantIDSweepResult.__name__, "result", insightface=links["insightface"], setting=setting,
                          reference=links.get("reference", links["image"]), values=values, seeds=seeds, shared=shared,
                          **optional, **pictures, **kept)
        server.say_on_node(f"{len(cells.values)} values and {len(cells.seeds)} seeds: {len(cells.keys)} pictures.")
        return {"result": tuple(made.out(slot) for slot in range(len(self.RETURN_TYPES))), "expand": graph.finalize()}


class _Pictures(dict):
    """Optional inputs of a node that takes an IMAGE of any further name, which is made when the node asks for it."""

    def __contains__(self, name):
        return True

    def __getitem__(self, name):
        return self.get(name, ("IMAGE", {"lazy": True}))


class InstantIDSweepResult:
    DESCRIPTION = ("Measures and arranges the pictures of InstantID Sweep, which adds this node by itself. It is not made to "
                   "be added by hand.")
    CATEGORY = CATEGORY
    SEARCH_ALIASES = ["instantid sweep result"]
    RETURN_TYPES, RETURN_NAMES = InstantIDSweep.RETURN_TYPES, InstantIDSweep.RETURN_NAMES
    OUTPUT_TOOLTIPS = InstantIDSweep.OUTPUT_TOOLTIPS
    FUNCTION = "collect"
    OUTPUT_NODE = True
    DEV_ONLY = True

    @classmethod
    def INPUT_TYPES(cls):
        swept = "As in InstantID Sweep."
        return {"required": {
            "insightface": inputs.FACE_ANALYSIS,
            "reference": ("IMAGE,PERSON", {"tooltip": "Whom the pictures are compared with."}),
            "setting": ("STRING", {"default": "ip_weight", "tooltip": swept}),
            "values": ("STRING", {"default": "", "tooltip": swept}),
            "seeds": ("STRING", {"default": "", "tooltip": swept}),
        }, "optional": _Pictures(options=inputs.OPTIONS), "hidden": {"dynprompt": "DYNPROMPT", "unique_id": "UNIQUE_ID"}}

    def check_lazy_status(self, setting, values, seeds, dynprompt, unique_id, **pictures):
        """Returns the next picture to be made, whenever an input has come, and shows the progress on InstantID Sweep."""
        keys = sweep.parse_cells(setting, values, seeds).keys
        missing = [key for key in keys if key in pictures and pictures[key] is None]
        ProgressBar(len(keys), dynprompt.get_display_node_id(unique_id)).update_absolute(len(keys) - len(missing))
        return missing[:1]

    def collect(self, insightface, reference, setting, values, seeds, dynprompt, unique_id, options=DEFAULTS, shared=None,
                **pictures):
        cells = sweep.parse_cells(setting, values, seeds)
        if pictures.keys() != set(cells.keys):
            raise InstantIDError("This node has no pictures. Use InstantID Sweep, which adds it by itself.")
        made = {pair: pictures[cells.key(*pair)] for pair in cells.pairs}
        for pair, picture in made.items():
            caches.sweeps.keep((shared, *pair), picture)
        every = torch.cat(list(made.values()))
        person = _reference(insightface, reference, choice=options.choice, **options.search)
        measured = measure.likeness(faces.Photos(insightface, every, **options.search), person)
        numbers = iter(measured.values)
        scores = sweep.Scores(cells, {pair: [next(numbers) for _ in picture] for pair, picture in made.items()})
        pictured = report.contact_sheet(scores, made), report.line_chart(scores)
        text = report.table(scores, *report.meaning(measured))
        best = scores.best if setting != sweep.BLOCKS or scores.best is None else cells.values.index(scores.best)
        best = ExecutionBlocker("InstantID Sweep: no picture shows a face, so there is no best value.") if best is None \
            else float(best)
        return {"ui": shown(text, *pictured), "result": (*pictured, best, every, text)}


NODES = {
    InstantIDFaces: "InstantID Faces",
    InstantIDLikeness: "InstantID Likeness",
    InstantIDSweep: "InstantID Sweep",
    InstantIDSweepResult: "InstantID Sweep Result",
}
