/* The search is a worker, and browsers start none for pages that are opened from a file. There this takes its place: an
   iframe, in which the worker's script finds what it calls. The theme looks for it by its name. */
"use strict";

class IFrameWorker extends EventTarget {
  constructor(url) {
    super();
    this.waiting = [];
    const frame = document.createElement("iframe");
    frame.hidden = true;
    document.body.append(frame);
    this.inside = frame.contentWindow;
    this.inside.postMessage = (data) => this.answer(data);
    this.inside.importScripts = async (...urls) => {
      for (const each of urls) await this.load(each);
    };
    this.load(url).then(() => {
      for (const data of this.waiting) this.tell(data);
      this.waiting = null;
    });
  }

  load(url) {
    const script = this.inside.document.createElement("script");
    script.src = url;
    return new Promise((resolve, reject) => {
      script.onload = resolve;
      script.onerror = reject;
      this.inside.document.body.append(script);
    });
  }

  postMessage(data) {
    if (this.waiting) this.waiting.push(data);
    else this.tell(data);
  }

  tell(data) {
    this.inside.dispatchEvent(new MessageEvent("message", { data }));
  }

  answer(data) {
    this.dispatchEvent(new MessageEvent("message", { data }));
  }

  terminate() {}
}

if (location.protocol === "file:") {
  window.IFrameWorker = IFrameWorker;
  window.Worker = IFrameWorker;
}
