// Keeps an open page up to date: on news from /events the page is fetched again
// and the parts marked data-live are made equal to the new ones, node by node,
// so that focus, selection and scroll position stay where they are. Without this
// script the page reloads itself.
"use strict";
(() => {
  const state = document.getElementById("state");
  let source = null, paused = false, busy = false, again = false;

  const say = (word) => { if (state) state.textContent = word; };

  const keyOf = (node) => (node.nodeType === Node.ELEMENT_NODE ? node.getAttribute("data-key") || node.id : "");

  // equalize makes the node old look like the node fresh.
  function equalize(old, fresh) {
    if (old.nodeType !== Node.ELEMENT_NODE) {
      if (old.data !== fresh.data) old.data = fresh.data;
      return;
    }
    for (const a of [...old.attributes]) {
      if (!fresh.hasAttribute(a.name) && a.name !== "open") old.removeAttribute(a.name);
    }
    for (const a of [...fresh.attributes]) {
      if (old.getAttribute(a.name) !== a.value && a.name !== "open") old.setAttribute(a.name, a.value);
    }
    // What somebody types is theirs.
    if (old.matches("input, textarea, select")) return;
    const keyed = new Map();
    for (const c of old.childNodes) if (keyOf(c)) keyed.set(keyOf(c), c);
    let at = old.firstChild;
    for (const next of [...fresh.childNodes]) {
      const key = keyOf(next);
      const same = key ? keyed.get(key) : at && !keyOf(at) && at.nodeName === next.nodeName ? at : null;
      if (same) {
        keyed.delete(key);
        if (same !== at) old.insertBefore(same, at); else at = at.nextSibling;
        equalize(same, next);
      } else {
        old.insertBefore(document.importNode(next, true), at);
      }
    }
    while (at) {
      const after = at.nextSibling;
      at.remove();
      at = after;
    }
  }

  async function refresh() {
    if (busy) { again = true; return; }
    busy = true;
    try {
      const answer = await fetch(location.href, { cache: "no-store" });
      // What was true a moment ago says more than a page with an error.
      if (answer.status >= 500) throw new Error("no answer");
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      const focused = document.activeElement;
      for (const old of document.querySelectorAll("[data-live]")) {
        const fresh = page.getElementById(old.id);
        if (fresh) equalize(old, fresh);
      }
      if (focused && focused.isConnected && focused !== document.activeElement) focused.focus({ preventScroll: true });
      document.documentElement.dataset.refreshed = Number(document.documentElement.dataset.refreshed || 0) + 1;
      say("live");
    } catch {
      say("no answer");
    }
    busy = false;
    if (again) { again = false; refresh(); }
  }

  function follow() {
    if (source || paused || document.hidden) return;
    let first = true;
    source = new EventSource("/events");
    source.addEventListener("facts", () => {
      if (first) { first = false; say("live"); return; }
      refresh();
    });
    source.onerror = () => { first = false; say("no answer"); };
  }

  function leave() {
    if (source) source.close();
    source = null;
  }

  // A browser has few connections to one server: pages nobody looks at give
  // theirs back.
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) leave();
    else if (!paused) { follow(); refresh(); }
  });

  const pause = document.getElementById("pause");
  if (pause) {
    pause.hidden = false;
    pause.addEventListener("click", () => {
      paused = !paused;
      pause.setAttribute("aria-pressed", String(paused));
      if (paused) { leave(); say("paused"); } else { follow(); refresh(); }
    });
  }

  if (document.querySelector("main[data-live]")) follow(); else say("");
})();
