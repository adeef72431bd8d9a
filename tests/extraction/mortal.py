"""A worker of a cluster that one of its videos kills; apart, as another process imports it."""

import os
import signal

from vaprompt.extraction.ray_engine import Actor

DEADLY = "DEADLY_VIDEO"
"""The environment variable that names the video."""


class Mortal(Actor):
    def extract_video(self, job):
        if job.video.name == os.environ[DEADLY]:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().extract_video(job)
