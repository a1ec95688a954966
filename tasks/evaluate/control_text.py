"""Plain English of our own, on which forgetting is measured; changing it changes every evaluation's digest."""

from __future__ import annotations

CONTROL_TEXTS = (
    "The harbour wakes before the town does. By five in the morning the first boats are already coming back, and "
    "the people who sort the catch stand in a row under the yellow lamps, talking about the weather and about "
    "each other. Nobody hurries, yet everything is finished by seven, when the lorries leave for the market on "
    "the other side of the hills.",
    "A good map leaves things out. If it showed every tree and every fence, it would be as large as the country "
    "itself and just as hard to understand. The person who draws it has to decide what a traveller will need: the "
    "roads, the rivers that cannot be crossed, the height of the passes, and the distance to the next place with "
    "water.",
    "My grandmother kept her recipes in a tin box, written on the backs of old envelopes. Most of them gave no "
    'amounts. She wrote "enough flour" or "butter, if there is any", and when we asked how long the bread should '
    "stay in the oven, she told us to wait until the kitchen smelled right.",
    "Light takes about eight minutes to travel from the sun to the earth. When we look at a star at night, we see "
    "it as it was years ago, and some of the stars in the sky may no longer exist. Astronomers use this delay to "
    "study the past: the farther away they look, the earlier the time they can observe.",
    "The committee met on Tuesday to discuss the new bridge. Two engineers explained why the old one could not be "
    "repaired, and the treasurer asked how much each plan would cost. After three hours they agreed to build a "
    "narrower bridge first and to widen the road later, provided that the bank was willing to lend the money.",
    "If you want to learn to play the piano, it is better to practise for twenty minutes every day than for three "
    "hours once a week. Play slowly at first, with each hand alone. Mistakes that are repeated become habits, and "
    "habits are much harder to change than notes.",
    "There were 48 passengers on the train when it left the station, and 17 of them got off at the first stop. "
    "The others stayed in their seats, read their newspapers, and watched the fields go by. It had rained during "
    "the night, so the river was high and the meadows shone like glass.",
    '"Did you lock the door?" he asked. She thought for a moment. "I believe so," she said, "but I am not sure." '
    "They turned the car around and drove back the whole way, only to find the door locked, the lights off, and "
    "the cat asleep on the windowsill.",
    "Computers do exactly what they are told, which is the reason why programs go wrong. A person who hears a "
    "confused instruction asks what was meant; a machine carries it out. Careful programmers therefore write down "
    "not only what should happen, but also what must never happen, and they let the machine check both.",
)
