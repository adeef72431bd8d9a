"""Reading what was recorded: video, sound, face crops; their time stamps; what encoders are fed with."""
