"""What all templates have: loaders with addresses of their files, prompts, sampling, notes."""

from workflow_templates.graph import Node

HUB = "https://huggingface.co"
CHECKPOINT = {"name": "sd_xl_base_1.0.safetensors", "directory": "checkpoints",
              "url": f"{HUB}/stabilityai/stable-diffusion-xl-base-1.0/resolve/main/sd_xl_base_1.0.safetensors"}
CONTROL_NET = {"name": "instantid_controlnet.safetensors", "directory": "controlnet",
               "url": f"{HUB}/InstantX/InstantID/resolve/main/ControlNetModel/diffusion_pytorch_model.safetensors"}
LIGHTNING = {"name": "sdxl_lightning_8step_lora.safetensors", "directory": "loras",
             "url": f"{HUB}/ByteDance/SDXL-Lightning/resolve/main/sdxl_lightning_8step_lora.safetensors"}
ADAPTER = "ip-adapter.bin"
SIDE = 1016     # of a picture: at exactly 1024, SDXL with InstantID likes to paint watermarks
PROMPT = "portrait photo of a person in a sunlit garden, 85 mm, natural colours"
NEGATIVE = "blurry, deformed, text, watermark"
FILES = f"""**Files**, in `ComfyUI/models`:
- `checkpoints`: any SDXL model
- `controlnet`: [InstantID's ControlNet]({CONTROL_NET['url']}), renamed to `{CONTROL_NET['name']}`
- `instantid`: [ip-adapter.bin]({HUB}/InstantX/InstantID/resolve/main/ip-adapter.bin)
- `insightface/models/antelopev2`: five `.onnx` files

The README of InstantID Swift says where to get them."""


def checkpoint():
    return Node("CheckpointLoaderSimple", [CHECKPOINT["name"]], models=[CHECKPOINT])


def control_net():
    return Node("ControlNetLoader", [CONTROL_NET["name"]], models=[CONTROL_NET])


def adapter():
    return Node("InstantIDModelLoader", [ADAPTER])


def analysis():
    return Node("InstantIDFaceAnalysis", ["CPU"])


def photo(title="Photo of the person", name="person.png"):
    return Node("LoadImage", [name, "image"], title)


def prompt(text=PROMPT, title="Prompt"):
    return Node("CLIPTextEncode", [text], title)


def negative():
    return prompt(NEGATIVE, "Negative prompt")


def empty_latent(width=SIDE, height=SIDE):
    return Node("EmptyLatentImage", [width, height, 1])


def sampler(steps=30, cfg=4.5, name="ddpm", scheduler="karras", denoise=1):
    return Node("KSampler", [7, "fixed", steps, cfg, name, scheduler, denoise])


def save():
    return Node("SaveImage", ["InstantID"])


def note(text):
    """What a user of the template has to know: what it does, what to choose, which files it needs."""
    return Node("MarkdownNote", [f"{text.strip()}\n\n{FILES}"], "What to choose", size=(420, 560))


class World:
    """The nodes that (nearly) every template begins and ends with, joined to each other."""

    def __init__(self, positive=PROMPT):
        self.checkpoint, self.control_net, self.adapter, self.analysis = checkpoint(), control_net(), adapter(), analysis()
        self.loaders = [self.checkpoint, self.control_net, self.adapter, self.analysis]
        self.positive = prompt(positive).joined(clip=self.checkpoint[1])
        self.negative = negative().joined(clip=self.checkpoint[1])
        self.sampler, self.decode, self.save = sampler(), Node("VAEDecode", []), save()
        self.decode.joined(samples=self.sampler[0], vae=self.checkpoint[2])
        self.save.joined(images=self.decode[0])

    def apply(self, kind="ApplyInstantID", values=(0.8, 0, 1), title=None, **links):
        """An Apply node; links besides those of the loaders and prompts, or in place of them."""
        return Node(kind, list(values), title).joined(
            instantid=self.adapter[0], insightface=self.analysis[0], control_net=self.control_net[0],
            **{"model": self.checkpoint[0], "positive": self.positive[0], "negative": self.negative[0], **links})

    def sample(self, applied, latent):
        """Join the sampler to an Apply node and a latent."""
        self.sampler.joined(model=applied[0], positive=applied[1], negative=applied[2], latent_image=latent[0])
