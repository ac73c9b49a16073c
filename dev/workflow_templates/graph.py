"""Nodes, links and columns become a workflow as ComfyUI's editor saves it."""

from dataclasses import dataclass, field

GAP_ACROSS, GAP_DOWN = 70, 70   # between columns; between nodes, of which the title bar takes 30
OURS = ("InstantIDModelLoader", "InstantIDFaceAnalysis", "FaceKeypointsPreprocessor", "ApplyInstantID",
        "ApplyInstantIDAdvanced", "InstantIDAttentionPatch", "ApplyInstantIDControlNet", "InstantIDPerson",
        "InstantIDSavePerson", "InstantIDPeople", "ApplyInstantIDPerson", "ApplyInstantIDPeople", "InstantIDSweep",
        "InstantIDTurnHead", "InstantIDDrawKeypoints", "InstantIDEditKeypoints")
APPLY = "instantid:INSTANTID insightface:FACEANALYSIS control_net:CONTROL_NET image:IMAGE model:MODEL positive:CONDITIONING " \
        "negative:CONDITIONING image_kps?:IMAGE mask?:MASK"
APPLIED = "MODEL:MODEL positive:CONDITIONING negative:CONDITIONING"
# type: linked inputs (? marks optional ones); widgets in the order of their values; outputs; width and height
TYPES = {
    "CheckpointLoaderSimple": ("", "ckpt_name:COMBO", "MODEL:MODEL CLIP:CLIP VAE:VAE", (340, 98)),
    "ControlNetLoader": ("", "control_net_name:COMBO", "CONTROL_NET:CONTROL_NET", (340, 58)),
    "LoraLoaderModelOnly": ("model:MODEL", "lora_name:COMBO strength_model:FLOAT", "MODEL:MODEL", (340, 82)),
    "LoadImage": ("", "image:COMBO upload:IMAGEUPLOAD", "IMAGE:IMAGE MASK:MASK", (320, 400)),
    "ImageBatch": ("image1:IMAGE image2:IMAGE", "", "IMAGE:IMAGE", (260, 46)),
    "ImageScale": ("image:IMAGE", "upscale_method:COMBO width:INT height:INT crop:COMBO", "IMAGE:IMAGE", (280, 130)),
    "ImageScaleToTotalPixels": ("image:IMAGE", "upscale_method:COMBO megapixels:FLOAT", "IMAGE:IMAGE", (300, 110)),
    "ImageCrop": ("image:IMAGE", "width:INT height:INT x:INT y:INT", "IMAGE:IMAGE", (280, 130)),
    "ImageCompositeMasked": ("destination:IMAGE source:IMAGE mask?:MASK", "x:INT y:INT resize_source:BOOLEAN", "IMAGE:IMAGE",
                             (280, 146)),
    "GrowMask": ("mask:MASK", "expand:INT tapered_corners:BOOLEAN", "MASK:MASK", (280, 82)),
    "CLIPTextEncode": ("clip:CLIP", "text:STRING", "CONDITIONING:CONDITIONING", (400, 140)),
    "EmptyLatentImage": ("", "width:INT height:INT batch_size:INT", "LATENT:LATENT", (320, 106)),
    "VAEEncode": ("pixels:IMAGE vae:VAE", "", "LATENT:LATENT", (280, 46)),
    "SetLatentNoiseMask": ("samples:LATENT mask:MASK", "", "LATENT:LATENT", (280, 46)),
    "KSampler": ("model:MODEL positive:CONDITIONING negative:CONDITIONING latent_image:LATENT",
                 "seed:INT control:CONTROL steps:INT cfg:FLOAT sampler_name:COMBO scheduler:COMBO denoise:FLOAT",
                 "LATENT:LATENT", (300, 326)),
    "VAEDecode": ("samples:LATENT vae:VAE", "", "IMAGE:IMAGE", (280, 46)),
    "SaveImage": ("images:IMAGE", "filename_prefix:STRING", "", (420, 480)),
    "PreviewImage": ("images:IMAGE", "", "", (320, 320)),
    "MarkdownNote": ("", "text:NOTE", "", (400, 420)),
    "InstantIDModelLoader": ("", "instantid_file:COMBO", "INSTANTID:INSTANTID", (340, 58)),
    "InstantIDFaceAnalysis": ("", "provider:COMBO", "FACEANALYSIS:FACEANALYSIS", (340, 58)),
    "FaceKeypointsPreprocessor": ("faceanalysis:FACEANALYSIS image:IMAGE", "", "IMAGE:IMAGE", (320, 66)),
    "ApplyInstantID": (APPLY, "weight:FLOAT start_at:FLOAT end_at:FLOAT", APPLIED, (320, 290)),
    "ApplyInstantIDAdvanced": (APPLY, "ip_weight:FLOAT cn_strength:FLOAT start_at:FLOAT end_at:FLOAT noise:FLOAT "
                               "combine_embeds:COMBO", APPLIED, (320, 362)),
    "InstantIDAttentionPatch": ("instantid:INSTANTID insightface:FACEANALYSIS image:IMAGE model:MODEL mask?:MASK",
                                "weight:FLOAT start_at:FLOAT end_at:FLOAT noise:FLOAT", "MODEL:MODEL FACE_EMBEDS:FACE_EMBEDS",
                                (320, 242)),
    "InstantIDSweep": ("instantid:INSTANTID insightface:FACEANALYSIS control_net:CONTROL_NET image:IMAGE model:MODEL "
                       "positive:CONDITIONING negative:CONDITIONING latent_image:LATENT vae:VAE image_kps?:IMAGE mask?:MASK",
                       "setting:COMBO values:STRING seeds:STRING steps:INT cfg:FLOAT sampler_name:COMBO scheduler:COMBO "
                       "denoise:FLOAT ip_weight:FLOAT cn_strength:FLOAT start_at:FLOAT end_at:FLOAT noise:FLOAT "
                       "combine_embeds:COMBO",
                       "sheet:IMAGE chart:IMAGE best:FLOAT pictures:IMAGE report:STRING", (520, 900)),
    "InstantIDTurnHead": ("keypoints?:KEYPOINTS",
                          "yaw:FLOAT pitch:FLOAT roll:FLOAT x:FLOAT y:FLOAT size:FLOAT width:INT height:INT",
                          "keypoints:KEYPOINTS", (320, 250)),
    "InstantIDDrawKeypoints": ("keypoints:KEYPOINTS", "opacity:FLOAT", "IMAGE:IMAGE", (320, 66)),
    "InstantIDEditKeypoints": ("keypoints?:KEYPOINTS background?:IMAGE", "width:INT height:INT state:STRING",
                               "keypoints:KEYPOINTS drawing:IMAGE json:STRING", (460, 640)),
    "InstantIDPerson": ("insightface:FACEANALYSIS image:IMAGE", "", "PERSON:PERSON", (320, 320)),
    "InstantIDSavePerson": ("person:PERSON", "name:STRING keep_crops:BOOLEAN if_exists:COMBO", "PERSON:PERSON", (320, 160)),
    "InstantIDPeople": ("person:PERSON mask?:MASK keypoints?:KEYPOINTS people?:INSTANTID_PEOPLE",
                        "ip_weight:FLOAT cn_strength:FLOAT start_at:FLOAT end_at:FLOAT", "INSTANTID_PEOPLE:INSTANTID_PEOPLE",
                        (320, 242)),
    "ApplyInstantIDPerson": ("model:MODEL positive:CONDITIONING negative:CONDITIONING instantid:INSTANTID person:PERSON "
                             "control_net:CONTROL_NET image_kps?:IMAGE mask?:MASK",
                             "ip_weight:FLOAT cn_strength:FLOAT start_at:FLOAT end_at:FLOAT noise:FLOAT combine_embeds:COMBO",
                             APPLIED, (320, 362)),
    "ApplyInstantIDPeople": ("model:MODEL positive:CONDITIONING negative:CONDITIONING instantid:INSTANTID "
                             "control_net:CONTROL_NET people:INSTANTID_PEOPLE image_kps?:IMAGE",
                             "noise:FLOAT width:INT height:INT", APPLIED, (320, 290)),
}
EDITOR_ONLY = ("CONTROL", "IMAGEUPLOAD", "NOTE")    # widgets that the editor adds: they have no input socket


def sockets(text):
    """'a:X b?:Y' -> [(name, type, whether it is optional)]"""
    return [(name.rstrip("?"), kind, name.endswith("?")) for name, kind in (word.split(":") for word in text.split())]


@dataclass
class Node:
    """A node with the values of its widgets; `links` are filled in as (node, number of its output)."""

    kind: str
    values: list
    title: str | None = None
    models: list = field(default_factory=list)      # files that the editor can offer to download
    size: tuple | None = None
    links: dict = field(default_factory=dict)
    id: int = 0
    pos: tuple = (0, 0)

    def __getitem__(self, number):
        """An output."""
        return self, number

    def joined(self, **links):
        """The node, with these inputs linked."""
        self.links |= links
        return self

    @property
    def extent(self):
        return self.size or TYPES[self.kind][3]


def columns(*stacks):
    """The nodes of a workflow, from left to right and from top to bottom; numbered, and placed so that none covers another."""
    x, nodes = 0, []
    for stack in stacks:
        y = 0
        for node in stack:
            node.pos, node.id = (x, y), len(nodes) + 1
            nodes.append(node)
            y += node.extent[1] + GAP_DOWN
        x += max(node.extent[0] for node in stack) + GAP_ACROSS
    return nodes


def linked(nodes, first=1):
    """(entries of the nodes, links as [id, from, output, to, input, type]) as the editor saves them."""
    entries, links = {}, []
    for node in nodes:
        inputs, widgets, outputs, _ = TYPES[node.kind]
        entry = entries[node.id] = {
            "id": node.id, "type": node.kind, "pos": list(node.pos), "size": list(node.extent), "flags": {},
            "order": node.id - 1, "mode": 0, "inputs": [],
            "outputs": [{"name": name, "type": kind, "links": []} for name, kind, _ in sockets(outputs)],
            "properties": {"Node name for S&R": node.kind,
                           **({} if node.kind == "MarkdownNote" else
                              {"cnr_id": "instantid-swift" if node.kind in OURS else "comfy-core"})},
            "widgets_values": node.values}
        if node.title:
            entry["title"] = node.title
        if node.models:
            entry["properties"]["models"] = node.models
        if node.kind == "MarkdownNote":
            entry |= {"color": "#432", "bgcolor": "#653"}
        for name, kind, optional in sockets(inputs):
            entry["inputs"].append({"name": name, "type": kind, **({"shape": 7} if optional else {}), "link": None})
        for name, kind, _ in sockets(widgets):
            if kind not in EDITOR_ONLY:
                entry["inputs"].append({"name": name, "type": kind, "widget": {"name": name}, "link": None})
    for node in nodes:
        for slot in entries[node.id]["inputs"]:
            if slot["name"] in node.links and "widget" not in slot:
                source, number = node.links[slot["name"]]
                slot["link"] = first + len(links)
                entries[source.id]["outputs"][number]["links"].append(slot["link"])
                links.append([slot["link"], source.id, number, node.id, entries[node.id]["inputs"].index(slot), slot["type"]])
    return list(entries.values()), links


def workflow(*stacks):
    """The workflow of some columns of nodes."""
    entries, links = linked(columns(*stacks))
    return {"revision": 0, "last_node_id": len(entries), "last_link_id": len(links), "nodes": entries, "links": links,
            "groups": [], "config": {}, "extra": {}, "version": 0.4}
