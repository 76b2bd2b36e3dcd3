"""Prompts: ten looks, their paraphrases, and a generator of free wordings."""
import looks

MAIN = {
    "pencil sketch": "a pencil sketch",
    "comic": "a pop art comic",
    "oil painting": "an oil painting",
    "watercolour": "a watercolour painting",
    "stained glass": "a stained glass window",
    "neon": "neon lights at night",
    "pixel art": "pixel art",
    "woodblock print": "a japanese woodblock print",
    "charcoal": "a charcoal drawing",
    "engraving": "a copper engraving",
}

STYLES = {
    "pencil sketch": ["pencil sketch", "pencil drawing", "graphite sketch", "graphite drawing", "sketch",
                      "pencil", "hand drawn sketch", "sketchbook page", "pencil sketch on white paper",
                      "light pencil hatching"],
    "comic": ["pop art comic", "comic", "comic book", "comic book page", "pop art", "halftone comic",
              "comic strip", "halftone print", "cartoon", "pop art print", "comics panel with halftone dots"],
    "oil painting": ["oil painting", "oil paint", "oil on canvas", "oil painting on canvas", "thick oil paint",
                     "impasto painting", "warm oil painting", "classical oil painting", "baroque oil painting"],
    "watercolour": ["watercolour painting", "watercolor painting", "watercolour", "watercolor", "aquarelle",
                    "watercolour wash", "soft watercolor on paper", "pastel watercolour", "watercolor illustration"],
    "stained glass": ["stained glass window", "stained glass", "stained-glass", "leaded glass",
                      "cathedral window", "stained glass art", "coloured glass panes", "church window"],
    "neon": ["neon lights at night", "neon", "neon lights", "neon sign", "glowing neon", "neon glow", "cyberpunk",
             "cyberpunk neon", "synthwave", "glowing neon lines", "tron"],
    "pixel art": ["pixel art", "pixels", "8-bit", "8 bit game", "retro game", "8-bit pixel art",
                  "handheld console game", "game boy", "pixelated video game", "green pixel art"],
    "woodblock print": ["japanese woodblock print", "woodblock print", "woodblock", "ukiyo-e", "ukiyo-e print",
                        "japanese print", "hokusai", "woodcut print", "hokusai print", "japanese art"],
    "charcoal": ["charcoal drawing", "charcoal", "charcoal sketch", "smudged charcoal", "charcoal on grey paper",
                 "black charcoal drawing", "dark charcoal", "burnt charcoal study"],
    "engraving": ["copper engraving", "engraving", "etching", "banknote engraving", "engraved illustration",
                  "sepia engraving", "copperplate", "old book engraving", "vintage engraving", "sepia etching"],
}
NEUTRAL = ["photo", "photograph", "realistic photo", "picture", "natural photo", "camera photo", "video frame"]

SUBJECTS = """dog cat face man woman child person people street city house car flower tree forest mountain
river sea beach boat bird horse fish snake insect butterfly food bread fruit apple cup bottle table chair room
kitchen window door book hand portrait garden landscape sky cloud sun snow rain bridge tower castle church train
bus bike road field bee spider turtle frog lizard elephant lion bear fox rabbit market crowd musician dancer
teapot lamp toy robot tomato orange plant leaf mushroom rock statue temple harbour island desert""".split()
ADJECTIVES = """red blue green yellow old young small big happy sad beautiful dark bright quiet busy wet golden
white black wild colourful lovely strange famous tall""".split()
PLACES = ["in the rain", "in the morning", "at the window", "in a garden", "on a table", "in the city",
          "by the sea", "in the forest", "under a tree", "in winter", "in summer", "with a hat", "at home"]
BOOSTS = ["detailed", "highly detailed", "beautiful", "masterpiece", "best quality", "fine art", "artistic",
          "high quality", "4k", "dramatic", "simple", "elegant"]
KEYS = ["neutral"] + looks.NAMES


def article(noun):
    return ("an " if noun[0] in "aeiou8" else "a ") + noun


def subject(rng):
    s = SUBJECTS[rng.integers(len(SUBJECTS))]
    if rng.random() < 0.4:
        s = f"{ADJECTIVES[rng.integers(len(ADJECTIVES))]} {s}"
    if rng.random() < 0.75:
        s = (article(s) if rng.random() < 0.7 else f"the {s}")
    if rng.random() < 0.3:
        s += " " + PLACES[rng.integers(len(PLACES))]
    return s


def sample(key, rng):
    """One random prompt for a look, or for `neutral`."""
    if key == "neutral":
        u = rng.random()
        if u < 0.3:
            return ""
        style = NEUTRAL[rng.integers(len(NEUTRAL))]
        text = [article(style), style, subject(rng), f"{article(style)} of {subject(rng)}"][rng.integers(4)]
        return text
    if rng.random() < 0.12:
        return MAIN[key]
    styles = STYLES[key]
    style = styles[rng.integers(len(styles))]
    if rng.random() < 0.06:  # word mixes
        style = " ".join(rng.permutation(style.split()))
    forms = [style, article(style), f"{article(style)} of {subject(rng)}", f"{style} of {subject(rng)}",
             f"{subject(rng)}, {style}", f"{subject(rng)} in the style of {article(style)}",
             f"{style} style", f"{subject(rng)} as {article(style)}", f"{subject(rng)} {style}",
             f"in {style} style", f"make it {article(style)}"]
    text = forms[rng.integers(len(forms))]
    if rng.random() < 0.25:
        boost = BOOSTS[rng.integers(len(BOOSTS))]
        text = f"{text}, {boost}" if rng.random() < 0.7 else f"{boost} {text}"
    return text
