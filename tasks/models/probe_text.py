"""Plain sentences of our own on which weights are proved; changing them changes the figures in every manifest."""

from __future__ import annotations

JAPANESE_SENTENCES = (
    "今朝は雨が降っていたので、駅まで傘をさして歩きました。電車は少し遅れていましたが、会議には間に合いました。",
    "日本は四方を海に囲まれた島国で、北から南まで長く伸びているため、地域によって気候が大きく異なります。",
    "図書館で借りた本を読み終えたら、来週の火曜日までに返さなければならない。",
    "新しい料理を覚えるには、まず材料をそろえ、手順を一つずつ確かめながら作ってみるのがよい。",
)
ENGLISH_SENTENCES = (
    "It was raining this morning, so I took an umbrella and walked to the station with my brother.",
    "The library closes at eight in the evening, and the books have to be returned before the end of the month.",
    "To learn a new dish, first gather what you need and then follow the steps one at a time.",
    "Water boils at a lower temperature in the mountains because the air pressure is lower there.",
)
