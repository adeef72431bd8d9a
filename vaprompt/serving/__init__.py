"""A local page for videos and the camera: uploads, a queue, a process that predicts, and a live view.

| module | holds |
|---|---|
| `limits.py` | what is taken at most |
| `gate.py` | who may ask: hosts, origins, token; the headers of every answer |
| `connections.py` | HTTP connections that are not waited for without end |
| `kinds.py`, `uploads.py` | what a video is by its first bytes; receiving one |
| `workplace.py` | the folder of uploads, and how much lies there |
| `jobs.py` | the queue |
| `engine.py`, `work.py` | the process that has the run and the encoders, as seen from here; and from inside |
| `live.py`, `live_window.py` | the camera: a session, and the last seconds that it needs |
| `app.py`, `server.py` | the addresses that are answered; starting and ending |

The server's own process decodes nothing and has no network loaded: what a hostile file does to a decoder, it does to
the engine, which is started again.
"""
