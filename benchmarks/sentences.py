"""Other words for the nine regions, so that the miniature text tower does not know the paper's phrases alone."""

from __future__ import annotations

from vaprompt.regions import PHRASES

TRAINING_TEMPLATES = (
    "a picture of someone who seems {}",
    "a person feeling {}",
    "a portrait of a person who is {}",
    "this face looks {}",
    "someone who looks {}",
    "{}",
)

_OTHERS = (
    (
        "gloomy and worn out",
        "depressed and weary",
        "sorrowful and exhausted",
        "sad and sleepy",
        "miserable and drained",
        "sad, low arousal",
        "bored and unhappy",
    ),
    ("unhappy and uneasy", "discontented", "displeased", "upset and uncomfortable", "negative mood", "disappointed"),
    (
        "furious and agitated",
        "angry and alarmed",
        "tense and afraid",
        "enraged",
        "angry",
        "stressed and upset",
        "angry, high arousal",
    ),
    ("sleepy and blank", "calm and still", "drowsy", "expressionless and tired", "neutral, low arousal", "passive"),
    ("neutral", "ordinary and even", "neither happy nor sad", "emotionally neutral", "composed", "plain and neutral"),
    (
        "attentive and awake",
        "surprised",
        "alert",
        "aroused but neither happy nor sad",
        "wide awake and neutral",
        "neutral, high arousal",
    ),
    ("content and at ease", "serene", "relaxed", "peaceful and pleased", "pleasant and sleepy", "happy, low arousal"),
    ("happy", "pleased and cheerful", "glad", "pleasant mood", "smiling and happy", "satisfied"),
    ("thrilled and delighted", "joyful", "excited", "elated and lively", "overjoyed", "happy, high arousal"),
)


def paraphrases(phrase: str) -> tuple[str, ...]:
    """Return other words for one of the paper's nine phrases."""
    return _OTHERS[PHRASES.index(phrase)]
