"""The templates, one function each. A docstring's first line is the template's name in the editor."""

import json

from workflow_templates.graph import Node, workflow
from workflow_templates.parts import LIGHTNING, SIDE, World, empty_latent, note, photo, sampler

ADVANCED = (0.8, 0.8, 0, 1, 0.35, "average")    # ip_weight, cn_strength, start_at, end_at, noise, combine_embeds
WIDE = 1200, 824    # pixels of a picture of two people


def portrait():
    """InstantID portrait"""
    world, person, latent = World(), photo(), empty_latent()
    applied = world.apply(image=person[0])
    world.sample(applied, latent)
    return workflow([note("""
A new portrait of the person in the photo. The pose is the photo's, too.

- **Photo**: one clear face, seen from the front.
- **weight**: 0.8 is a good start. More gives more likeness and follows the photo's pose more closely.
- **cfg** of KSampler: 4 to 5. Colours burn above that.
- **Size**: 1016 rather than 1024, which brings fewer watermarks.""")],
        [*world.loaders], [person], [world.positive, world.negative], [latent, applied],
        [world.sampler, world.decode], [world.save])


def pose():
    """InstantID pose from another photo"""
    world, person, other, latent = World(), photo(), photo("Photo with the pose", "pose.png"), empty_latent()
    scaled = Node("ImageScale", ["lanczos", SIDE, SIDE, "center"], "As large as the picture").joined(image=other[0])
    drawn = Node("FaceKeypointsPreprocessor", []).joined(faceanalysis=world.analysis[0], image=scaled[0])
    shown = Node("PreviewImage", [], "What IdentityNet follows").joined(images=drawn[0])
    applied = world.apply(image=person[0], image_kps=scaled[0])
    world.sample(applied, latent)
    return workflow([note("""
The face comes from one photo, the pose from another one. The second photo may show anybody: only five points of its face are
used, for where the face is and where it looks.

- **Photo with the pose**: its face should be about as large as the face in the new picture. The picture on the right shows the
five points.
- **As large as the picture**: keep its width and height equal to those of Empty Latent Image.
- **weight**: 0.8. For a freer pose, start later (start_at 0.1 to 0.2), or use the template without pose.""")],
        [*world.loaders], [person, other], [world.positive, world.negative, scaled, drawn, shown], [latent, applied],
        [world.sampler, world.decode], [world.save])


def several_photos():
    """InstantID several photos of one person"""
    world, latent = World(), empty_latent()
    photos = [photo(f"Photo {number}", f"person_{number}.png") for number in (1, 2, 3)]
    two = Node("ImageBatch", [], "Photos 1 and 2").joined(image1=photos[0][0], image2=photos[1][0])
    three = Node("ImageBatch", [], "All photos").joined(image1=two[0], image2=photos[2][0])
    applied = world.apply("ApplyInstantIDAdvanced", ADVANCED, image=three[0])
    world.sample(applied, latent)
    return workflow([note("""
Several photos of the same person give a better likeness than one. The pose comes from the first photo.

- **Photos**: three to five, with different expressions and light. All of them are scaled to the size of the first one, so
choose photos of a similar shape. A photo in which no face is found is left out, and the log says so.
- **combine_embeds**: average is a good choice. concat shows the model all photos at once.
- **ip_weight** is the likeness, **cn_strength** how closely the pose is followed.
- **noise** 0.35 keeps colours natural. Less noise follows the photos' colours more.""")],
        [*world.loaders], photos, [world.positive, world.negative, two, three], [latent, applied],
        [world.sampler, world.decode], [world.save])


def of_two_people(text, *more, **links):
    """A workflow with two people in one picture, each from a photo. text: of the note. more: nodes below the prompts. links: of
    Apply InstantID People, besides those that it always has."""
    world = World("photo of two people side by side in a sunlit garden, 50 mm, natural colours, on the left a person in a blue "
                  "shirt, on the right a person in a red coat")
    latent, photos, persons, lists = empty_latent(*WIDE), [], [], []
    for side in ("left", "right"):
        of_side = photo(f"Photo: {side}", f"person_{side}.png")
        person = Node("InstantIDPerson", [], f"Person: {side}").joined(insightface=world.analysis[0], image=of_side[0])
        listed = Node("InstantIDPeople", [0.8, 0.8, 0, 1], f"In the picture: {side}").joined(person=person[0])
        if lists:
            listed.joined(people=lists[-1][0])
        photos, persons, lists = [*photos, of_side], [*persons, person], [*lists, listed]
    applied = Node("ApplyInstantIDPeople", [0.35, *WIDE]).joined(
        instantid=world.adapter[0], control_net=world.control_net[0], model=world.checkpoint[0], positive=world.positive[0],
        negative=world.negative[0], people=lists[-1][0], **links)
    world.sample(applied, latent)
    return workflow([note(text)], [*world.loaders], photos, persons, [world.positive, world.negative, *more], [*lists, latent],
                    [applied], [world.sampler, world.decode], [world.save])


def two_people():
    """InstantID two people"""
    return of_two_people("""
Two persons side by side, each from a photo. IdentityNet runs once a step for both.

- The picture is divided from left to right in the order of the list, and each face is placed in its part.
- **Other places**: connect a mask to each *InstantID People*. Leave a little room between the masks.
- **More people**: add a photo, an InstantID Person and an InstantID People for each, and connect the lists one after the other.
- **Another size**: change the width and the height of Empty Latent Image and of Apply InstantID People together.
- **Prompt**: say how many people there are, and what each looks like.""")


def turn_the_head():
    """InstantID turn the head"""
    world, person, latent = World(), photo(), empty_latent()
    head = Node("InstantIDTurnHead", [25, 0, 0, 0.5, 0.4, 0.45, SIDE, SIDE])
    drawn = Node("InstantIDDrawKeypoints", [1]).joined(keypoints=head[0])
    shown = Node("PreviewImage", [], "What IdentityNet follows").joined(images=drawn[0])
    applied = world.apply(image=person[0], image_kps=drawn[0])
    world.sample(applied, latent)
    return workflow([note("""
The person of the photo, looking where you want. The pose comes from sliders and not from a photo.

- **yaw** turns the head to the right edge of the picture, **pitch** lifts it, **roll** tilts it. Negative numbers do the
opposite.
- **x**, **y** and **size** place it. The picture on the right shows the five points.
- **width** and **height** of InstantID Turn Head: keep them equal to those of Empty Latent Image.
- **Begin with small turns.** Points on the far side of the head fade out, and IdentityNet then knows less about the face.""")],
        [*world.loaders], [person], [world.positive, world.negative, head, drawn, shown], [latent, applied],
        [world.sampler, world.decode], [world.save])


def two_by_hand():
    """InstantID two people placed by hand"""
    width, height = WIDE
    faces = [{"width": width, "height": height, "opacities": [1] * 5, "array": [
        [middle - 50, 300], [middle + 50, 300], [middle, 357], [middle - 41, 415], [middle + 41, 415]]}
        for middle in (340, 860)]
    editor = Node("InstantIDEditKeypoints", [width, height, json.dumps(faces)], "Place the faces")
    return of_two_people("""
Two persons, each from a photo, with their faces where you put them.

- **Place the faces**: drag a point, or drag inside a frame to move a face. The frame's handles turn, tilt and scale it.
- The persons belong to the faces from left to right.
- **Another size**: change the width and the height of Empty Latent Image, of the editor and of Apply InstantID People together.
- **Prompt**: say how many people there are, and what each looks like.""", editor, image_kps=editor[1])


def my_person():
    """InstantID my person"""
    world, photographed, latent = World(), photo(), empty_latent()
    person = Node("InstantIDPerson", []).joined(insightface=world.analysis[0], image=photographed[0])
    saved = Node("InstantIDSavePerson", ["my person", True, "replace"]).joined(person=person[0])
    applied = Node("ApplyInstantIDPerson", list(ADVANCED)).joined(
        instantid=world.adapter[0], person=saved[0], control_net=world.control_net[0], model=world.checkpoint[0],
        positive=world.positive[0], negative=world.negative[0])
    world.sample(applied, latent)
    return workflow([note("""
Saves a person once, so that every other workflow can load it without the photo and without InsightFace.

- **Photo**: one clear face, or a batch of several photos of the same person.
- **name** of InstantID Save Person: the file is `models/instantid_people/my person.safetensors`.
- **Afterwards**: delete the photo, the face networks, InstantID Person and InstantID Save Person, and connect *InstantID Load
Person* to Apply InstantID Person. The picture stays the same.
- The file is a measurement of a face: ask before you share it.""")],
        [*world.loaders], [photographed, person], [saved, world.positive, world.negative], [latent, applied],
        [world.sampler, world.decode], [world.save])


def without_pose():
    """InstantID likeness without pose"""
    world, person, latent = World("full body photo of a person walking through a city at night, 35 mm"), photo(), empty_latent()
    patch = Node("InstantIDAttentionPatch", [0.8, 0, 1, 0.35]).joined(
        instantid=world.adapter[0], insightface=world.analysis[0], image=person[0], model=world.checkpoint[0])
    world.sampler.joined(model=patch[0], positive=world.positive[0], negative=world.negative[0], latent_image=latent[0])
    return workflow([note("""
The likeness alone, without IdentityNet, the ControlNet that gives the pose. The prompt is free to choose pose, distance and
view, and steps are faster.

- **weight**: 0.8 to 1.2. The likeness is weaker than with IdentityNet.
- **noise**: 0.35 keeps colours natural.
- **Prompt**: say how far away the person is, and where it looks.
- No ControlNet file is needed here.""")],
        [world.checkpoint, world.adapter, world.analysis], [person], [world.positive, world.negative], [latent, patch],
        [world.sampler, world.decode], [world.save])


def face_swap():
    """InstantID face swap into a picture"""
    world, person = World("photo of a person, natural light"), photo()
    target = photo("Picture, with the face masked", "picture.png")
    scaled = Node("ImageScaleToTotalPixels", ["lanczos", 1.0], "One megapixel, as SDXL likes it").joined(image=target[0])
    grown = Node("GrowMask", [16, True], "A margin around the mask").joined(mask=target[1])
    encoded = Node("VAEEncode", []).joined(pixels=scaled[0], vae=world.checkpoint[2])
    latent = Node("SetLatentNoiseMask", [], "Paint inside of the mask only").joined(samples=encoded[0], mask=grown[0])
    applied = world.apply(image=person[0], image_kps=scaled[0])
    world.sample(applied, latent)
    world.sampler.values = sampler(denoise=0.85).values
    pasted = Node("ImageCompositeMasked", [0, 0, False], "Keep the rest of the picture").joined(
        destination=scaled[0], source=world.decode[0], mask=grown[0])
    world.save.joined(images=pasted[0])
    return workflow([note("""
Paints the person of the photo into an existing picture. The face keeps the place and the pose that it has in the picture.

- **Picture**: load it, right-click the node, choose *Open in MaskEditor*, and paint over the whole face with some hair. Without
a mask nothing changes.
- **Prompt**: describe the picture around the face.
- **denoise** of KSampler: 0.85. Less keeps more of the old face, more follows the photo.
- Ask people before you put them into pictures.""")],
        [*world.loaders], [person, target], [world.positive, world.negative, scaled, grown], [encoded, latent, applied],
        [world.sampler, world.decode, pasted], [world.save])


def small_face():
    """InstantID small face in a second pass"""
    world, person = World("close-up photo of the face of a person, natural light"), photo()
    picture = photo("Picture with a small face", "picture.png")
    crop = Node("ImageCrop", [384, 384, 320, 96], "The part with the face").joined(image=picture[0])
    large = Node("ImageScale", ["lanczos", SIDE, SIDE, "disabled"], "Enlarge it").joined(image=crop[0])
    encoded = Node("VAEEncode", []).joined(pixels=large[0], vae=world.checkpoint[2])
    applied = world.apply(image=person[0], image_kps=large[0])
    world.sample(applied, encoded)
    world.sampler.values = sampler(denoise=0.5).values
    small = Node("ImageScale", ["lanczos", 384, 384, "disabled"], "Make it small again").joined(image=world.decode[0])
    pasted = Node("ImageCompositeMasked", [320, 96, False], "Paste it back").joined(destination=picture[0], source=small[0])
    world.save.joined(images=pasted[0])
    return workflow([note("""
SDXL paints small faces badly, as they have few pixels. This second pass cuts the part with the face out of a finished picture,
enlarges it, samples it once more with the person, and pastes it back.

- **The part with the face**: a square around the head, some shoulder included. x and y are its upper left corner.
- **Make it small again** and **Paste it back** need the same size and the same x and y.
- **denoise** of KSampler: 0.4 to 0.6. More gives more likeness, and a border that may show.""")],
        [*world.loaders], [person, picture], [world.positive, world.negative, crop, large], [encoded, applied],
        [world.sampler, world.decode, small, pasted], [world.save])


def lightning():
    """InstantID Lightning 8 steps"""
    world, person, latent = World(), photo(), empty_latent()
    lora = Node("LoraLoaderModelOnly", [LIGHTNING["name"], 1], models=[LIGHTNING]).joined(model=world.checkpoint[0])
    applied = world.apply("ApplyInstantIDAdvanced", ADVANCED, image=person[0], model=lora[0])
    world.sample(applied, latent)
    world.sampler.values = sampler(8, 1.5, "euler", "sgm_uniform").values
    return workflow([note(f"""
A portrait in eight steps, with the LoRA of SDXL-Lightning.

- **steps** 8, **sampler** euler, **scheduler** sgm_uniform: the LoRA was made for these.
- **cfg**: 1 to 2. At exactly 1 the negative prompt and the noise have no effect, and each step does half the work.
- **cn_strength**: lower it if edges look hard.
- The [LoRA]({LIGHTNING['url']}) goes to `ComfyUI/models/loras`.""")],
        [world.checkpoint, lora, world.control_net, world.adapter, world.analysis], [person], [world.positive, world.negative],
        [latent, applied],
        [world.sampler, world.decode], [world.save])


def find_the_weight():
    """InstantID find the weight"""
    world, person, latent = World(), photo(), empty_latent()
    values = ["weight", "0.4 to 1.0 step 0.2", "1, 2", *world.sampler.values[2:], *ADVANCED]
    swept = Node("InstantIDSweep", values).joined(
        instantid=world.adapter[0], insightface=world.analysis[0], control_net=world.control_net[0], image=person[0],
        model=world.checkpoint[0], positive=world.positive[0], negative=world.negative[0], latent_image=latent[0],
        vae=world.checkpoint[2])
    sheet = Node("PreviewImage", [], "All pictures, with their likeness").joined(images=swept[0])
    chart = Node("PreviewImage", [], "Likeness over the weight").joined(images=swept[1])
    world.save.joined(images=swept[3])
    return workflow([note("""
Makes pictures with several weights and seeds, measures how like the person they are, and says which weight is best.

- **values**: `0.4 to 1.0 step 0.2` or numbers with commas between. Add one and run again: only its pictures are made.
- **seeds**: two or more. Likeness differs from seed to seed.
- **setting**: what is varied. It may also be cn_strength, noise or another setting.
- Look at the pictures, too: at high weights colours burn and the prompt is ignored.""")],
        [*world.loaders], [person], [world.positive, world.negative, latent], [swept], [sheet, chart], [world.save])


TEMPLATES = {function.__doc__.splitlines()[0]: function for function in (
    portrait, pose, turn_the_head, several_photos, my_person, two_people, two_by_hand, without_pose, face_swap, small_face,
    lightning, find_the_weight)}
