"""Pages that are one file each and ask nobody for anything: templates, styles, scripts and data put together.

A page is a template that extends `templates/base.html`, and a `Page` that names it, its data blocks and its files of
`assets/`; `write_page` publishes it. `templates/parts.html` has what several pages show: texts of any length, recipe
values, scores with intervals, tables of fields. Numbers in bulk are packed by `packing` and read by `Data.unpack`.

| script | gives |
|---|---|
| `data.js` | `Data.block(name)`, `Data.unpackAll(arrays)`, `Data.extremes`, `Data.at`: the page's data |
| `theme.js` | `Theme.colour("--predicted")`, `Theme.changed(draw)`: the style sheet's colours, in light and dark |
| `zooming.js` | `Zooming.group(from, to)`: the part of a time axis that several charts show; gestures and keys |
| `charts.js` | `Charts.timeline` (with `mark`, `band`, `pick`), `Charts.curves`, `Charts.clock`, `Charts.element` |
| `heat.js` | `Heat.grid`: cells with axes; `Heat.timeline` (with `mark`, `pick`): shares over time |
| `plane.js` | `Plane.density`, `Plane.arrows`: the valence-arousal plane |
| `sound.js` | `Sound.timeline`: the sound's level, and where a voice is heard |
| `player.js` | `Player.create`: a video's moment, frame by frame; a clock in its stead where it cannot be played |
| `moving.js` | `Moving.plane`, `Moving.bars`, `Moving.boxes`: what moves along with a video |
| `videos.js` | `Videos.list(all, choose)`: a list to be searched, ordered and chosen from, with small traces |

Each is one constant of its name. What a page needs beyond the policy, such as its video, is said in `Page.policy`.
"""
