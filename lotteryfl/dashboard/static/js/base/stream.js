/** Server-sent events that miss nothing: whoever comes back says what was the last it knew, and how it stands is shown. */

import { get } from "./api.js";
import { byId, setText } from "./dom.js";

const AGAIN = 5000; // milliseconds until a refused stream is asked for once more

/**
 * Follow a stream for as long as the page is looked at.
 *
 * @param path of the stream, under /api
 * @param cursor what is known already; null: nothing
 * @param handlers by event's name, called with its data
 * @param isOver whether nothing new is to come: then its server may end
 */
export function follow(path, cursor, handlers, isOver = () => false) {
  let source = null;
  let timer = null;

  function open() {
    close();
    show("waits", "Connecting …");
    source = new EventSource(`/api/${path}${cursor ? `?after=${encodeURIComponent(cursor)}` : ""}`);
    source.onopen = () => show("live", "Connected");
    source.onerror = broken;
    for (const [name, handler] of Object.entries(handlers)) {
      source.addEventListener(name, (event) => {
        cursor = event.lastEventId || cursor;
        handler(JSON.parse(event.data));
      });
    }
  }

  function broken() {
    if (isOver()) show("waits", "Not connected: the run is over; lotteryfl dashboard DIR shows it again");
    else show("gone", "Connection lost, trying again …");
    if (source.readyState !== EventSource.CLOSED) return; // the browser tries again by itself
    timer = setTimeout(open, AGAIN);
    get("runs").catch((error) => {
      if (error.status === 401 || error.status === 403) show("gone", `No access: ${error.message}`);
    });
  }

  function close() {
    clearTimeout(timer);
    source?.close();
    source = null;
  }

  document.addEventListener("visibilitychange", () => {
    if (document.hidden) close();
    else if (!source) open();
  });
  if (!document.hidden) open();
}

function show(kind, text) {
  const node = byId("connection");
  node.className = `connection ${kind}`;
  setText(node, text);
}
