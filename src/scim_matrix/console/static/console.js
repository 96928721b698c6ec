"use strict";
// The server writes times in this zone from the next page on; until then in UTC.
document.cookie = `zone=${Intl.DateTimeFormat().resolvedOptions().timeZone}; path=/console/; max-age=31536000; samesite=strict`;

const words = new Intl.RelativeTimeFormat("en");
const units = [["minute", 60, 60], ["hour", 3600, 24], ["day", 86400, Infinity]];

// How far off a moment is, so many seconds from now (behind us: below 0), to the nearest whole.
function distance(seconds) {
  const size = Math.abs(seconds);
  if (size < 30) return seconds > 0 ? "in a moment" : "moments ago";
  const [unit, length] = units.find((one) => Math.round(size / one[1]) < one[2]);
  return words.format(Math.sign(seconds) * Math.round(size / length), unit);
}

// How long ago; the exact time stays at hand, under the pointer or at a touch.
function tell(time) {
  time.title ||= time.textContent;
  const seconds = (Date.parse(time.dateTime) - Date.now()) / 1000;
  time.textContent = time.classList.contains("exact") ? time.title : distance(seconds);
}
const tellAll = () => document.querySelectorAll("time.age").forEach(tell);

tellAll();
setInterval(tellAll, 15000);
document.addEventListener("htmx:afterSwap", tellAll);
document.addEventListener("click", (event) => {
  const time = event.target.closest("time.age");
  if (time) {
    time.classList.toggle("exact");
    tell(time);
  }
});

// The overview comes anew while somebody reads it: what is open stays so, and focus where it is.
// Something is the same by the card that it is in, what it leads to or says, and of what time.
const which = (one) => JSON.stringify([
  one.closest("[id]").id,
  one.localName,
  one.getAttribute("href") ?? one.textContent,
  one.closest("li")?.querySelector("time")?.dateTime,
]);
let shown = null;
let open = new Set();
let focused = null;
document.addEventListener("htmx:beforeSwap", ({ detail }) => {
  const overview = detail.target;
  if (overview.id !== "overview") return;
  if (detail.serverResponse === shown) detail.shouldSwap = false;
  shown = detail.serverResponse;
  open = new Set([...overview.querySelectorAll("details[open] > summary")].map(which));
  const active = document.activeElement;
  focused = overview.contains(active) && active !== overview ? which(active) : null;
});
document.addEventListener("htmx:afterSwap", ({ detail }) => {
  const overview = detail.target;
  if (overview.id !== "overview") return;
  for (const summary of overview.querySelectorAll("summary")) {
    if (open.has(which(summary))) summary.parentElement.open = true;
  }
  if (focused === null) return;
  const found = [...overview.querySelectorAll("a, summary")].find((one) => which(one) === focused);
  // What has gone cannot have focus: its place is kept all the same.
  (found ?? overview).focus({ preventScroll: true });
});

// Of two quick clicks the browser would show what came of the second only.
document.addEventListener("submit", (event) => {
  const form = event.target;
  if (form.method !== "post") return;
  if (Date.now() - Number(form.dataset.sent ?? 0) < 2000) event.preventDefault();
  else form.dataset.sent = Date.now();
});

// Browsers keep the session's cookie only where nobody listens in.
if (!isSecureContext) document.getElementById("insecure")?.removeAttribute("hidden");
