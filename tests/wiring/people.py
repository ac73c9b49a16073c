"""The nodes for people as tests wire them: lists of people, and both Apply nodes."""

from oracle import cases


def people_of(nodes, *people):
    """The INSTANTID_PEOPLE of dictionaries, each the inputs of InstantIDPeople."""
    listed = ()
    for one in people:
        listed, = cases.call(nodes, "InstantIDPeople", people=listed, **one)
    return listed


def apply_people(nodes, world, people, **over):
    """(model, positive, negative) of Apply InstantID (Several People)."""
    return cases.call(nodes, "ApplyInstantIDPeople", **{**_given(world), "people": people, **over})


def apply_person(nodes, world, person, **over):
    """(model, positive, negative) of Apply InstantID (Person)."""
    settings = dict(ip_weight=0.8, cn_strength=0.8, start_at=0.0, end_at=1.0, combine_embeds="average")
    return cases.call(nodes, "ApplyInstantIDPerson", **{**_given(world), **settings, "person": person, **over})


def _given(world):
    return dict(instantid=world.instantid, control_net=world.net, model=world.model, positive=world.positive,
                negative=world.negative, noise=0.0)
