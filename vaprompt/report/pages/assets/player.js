/* What a page runs by: its video, or, where the browser has no picture of it, a clock that only counts.

Moments are seconds from the first frame, and always those of a frame, if the page knows them all. */
"use strict";

const Player = (() => {
  const SPEEDS = [0.1, 0.25, 0.5, 0.75, 1, 1.25, 1.5, 2, 3, 4];
  /** Seconds behind a frame's time at which it is on the screen for sure: packed times may stray by half of that. */
  const BEHIND = 1.2e-3;
  /** Milliseconds after which no first frame is waited for. */
  const PATIENCE = 700;

  /** Counts time, and shows nothing. */
  function counter(last, tell) {
    let at = 0;
    let speed = 1;
    let since = null;
    let next = 0;
    const now = () => (since === null ? at : Math.min(last, at + ((performance.now() - since) / 1000) * speed));
    const tick = () => {
      if (since === null) return;
      if (now() >= last) pause();
      else next = requestAnimationFrame(tick);
      tell("time");
    };
    function pause() {
      cancelAnimationFrame(next);
      at = now();
      since = null;
      tell("state");
    }
    return {
      now,
      playing: () => since !== null,
      play: () => {
        if (since !== null) return;
        if (at >= last) at = 0;
        since = performance.now();
        tell("state");
        next = requestAnimationFrame(tick);
      },
      pause,
      seek: (seconds) => {
        at = seconds;
        if (since !== null) since = performance.now();
        tell("time");
      },
      speed: (factor) => {
        at = now();
        if (since !== null) since = performance.now();
        speed = factor;
      },
    };
  }

  /** Follows a video or audio element, frame by frame where the browser tells of frames. */
  function film(video, start, tell) {
    const framewise = "requestVideoFrameCallback" in video;
    // The media's own time of the first frame, as the browser tells it with that frame, else as the file says it. A
    // browser may tell of a later frame first: Chromium shows none of an mkv's before its sound begins.
    let zero = framewise ? null : start;
    let at = 0;
    // What was asked for before the first frame's time was known: to be somewhere, to play.
    let wanted = null;
    let eager = false;
    // What was gone to last, until a frame from there on has been shown in play, where frames are told of.
    let goal = null;
    // How long the browser took the media to be when it was sent there.
    let known = 0;
    let next = 0;

    function reach(seconds) {
      at = Math.max(0, seconds);
      tell("time");
    }
    function begin(seconds) {
      if (zero !== null) return;
      zero = seconds;
      if (wanted !== null) seek(wanted);
      if (eager) play();
    }
    /** Where no frame was told of in all that time, the video is where it says that it is. */
    function impatient() {
      if (zero !== null) return;
      begin(start);
      if (video.paused && !video.seeking && goal === null) reach(video.currentTime - zero);
    }
    function frame(_, told) {
      begin(told.mediaTime - start > BEHIND ? start : told.mediaTime);
      if (heard(told.mediaTime - zero)) reach(told.mediaTime - zero);
      video.requestVideoFrameCallback(frame);
    }
    /** Whether a frame tells where the video is. A browser may tell of an earlier goal's frame after it has reached the
    next goal, and not of that one's; so a video at rest is where it was sent to. */
    function heard(seconds) {
      if (wanted !== null || video.seeking) return false;
      if (goal !== null && (video.paused || seconds < goal - BEHIND)) return false;
      goal = null;
      return true;
    }
    function follow() {
      reach(video.currentTime - zero);
      cancelAnimationFrame(next);
      if (!video.paused) next = requestAnimationFrame(follow);
    }
    function seek(seconds) {
      reach(seconds);
      if (zero === null) wanted = seconds;
      else {
        wanted = null;
        if (framewise) goal = seconds;
        known = video.duration;
        video.currentTime = seconds + zero + BEHIND;
      }
    }
    /** A browser goes no further than to the media's end as far as it knows that: of an mp4 whose time stamps begin late
    Chromium takes it to be earlier, until it has read on. It goes no further back than to what it can show. */
    function arrived() {
      if (goal === null || wanted !== null || video.seeking) return;
      const astray = video.currentTime - (goal + zero + BEHIND);
      if (astray < -BEHIND && video.duration > known) seek(goal);
      else if (astray > BEHIND && video.paused) reach((goal = video.currentTime - zero));
    }
    function play() {
      // One that plays already may tell of a later frame than its first.
      eager = zero === null;
      if (eager) tell("state");
      // A page may not play sound before somebody touched it; then the button still says "play".
      else video.play().catch(() => tell("state"));
    }
    /** Who pauses it elsewhere, by a key of the keyboard's or as the browser, may do so where no frames are told of, as
    in a hidden tab. */
    function stopped() {
      if (zero === null || video.seeking || (goal === null && !document.hidden)) return;
      reach(video.currentTime - zero);
      // At its end no other frame can be on the screen than the last.
      goal = video.ended ? at : null;
    }
    if (framewise) {
      video.requestVideoFrameCallback(frame);
      // The first frame may be on the screen already: it is told of when it is gone to once more.
      video.currentTime = 0;
      setTimeout(impatient, PATIENCE);
      // After its end a video plays from its beginning. It may be paused again by now.
      video.addEventListener("play", () => (goal = video.paused ? goal : null));
      video.addEventListener("pause", stopped);
      for (const name of ["seeked", "durationchange"]) video.addEventListener(name, arrived);
    } else {
      video.addEventListener("play", follow);
      video.addEventListener("seeked", follow);
    }
    for (const name of ["play", "pause", "ended"]) video.addEventListener(name, () => tell("state"));
    return {
      now: () => at,
      playing: () => eager || (!video.paused && !video.ended),
      play,
      pause: () => {
        if (eager) {
          eager = false;
          tell("state");
        }
        if (video.paused) return;
        video.pause();
        // What it has shown since was not told.
        if (goal !== null) seek(goal);
      },
      seek,
      speed: (factor) => (video.playbackRate = factor),
    };
  }

  /** Runs `video` from 0 to `last`. options: last; start (the media's time of the first frame, as the file says);
  snap(seconds) -> the time of the frame on the screen; lost(): told once when there is no picture. Where only the sound
  could be played it is left out: it may begin later or end earlier, and a page cannot run by it. */
  function create(video, { last, start, snap, lost }) {
    const listeners = new Set();
    let speed = 1;
    let source = counter(last, tell);
    let shown = "wait";

    function tell(what) {
      for (const listener of listeners) listener(what);
    }
    function take(next) {
      const playing = source.playing();
      source.pause();
      const at = source.now();
      source = next;
      source.speed(speed);
      if (at > 0) source.seek(at);
      if (playing) source.play();
      tell("state");
    }
    function ready() {
      if (shown !== "wait") return;
      // A video without a picture; an element that is for sound alone has no width.
      if (video.videoWidth === 0) return failed();
      shown = "video";
      take(film(video, start, tell));
    }
    function failed() {
      if (shown === "none") return;
      shown = "none";
      take(counter(last, tell));
      lost();
    }
    video.addEventListener("error", failed);
    if (video.readyState >= 2) ready();
    else if (video.error !== null) failed();
    else video.addEventListener("loadeddata", ready);

    const limited = (seconds) => Math.min(Math.max(seconds, 0), last);
    const self = {
      now: () => Math.min(snap(source.now()), last),
      /** "wait", "video" or "none". */
      shown: () => shown,
      playing: () => source.playing(),
      toggle: () => (source.playing() ? source.pause() : source.play()),
      pause: () => source.pause(),
      seek: (seconds) => source.seek(snap(limited(seconds))),
      move: (seconds) => self.seek(self.now() + seconds),
      speed: () => speed,
      /** Play faster (1) or slower (-1) by one step. */
      faster: (steps) => {
        const index = SPEEDS.indexOf(speed) + steps;
        speed = SPEEDS[Math.min(Math.max(index, 0), SPEEDS.length - 1)];
        source.speed(speed);
        tell("state");
      },
      /** Call `listener` with "time" or "state" whenever that changes. */
      changed: (listener) => listeners.add(listener),
    };
    return self;
  }

  return { create };
})();
