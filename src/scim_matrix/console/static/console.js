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

// Of two quick clicks the browser would show what came of the second only.
document.addEventListener("submit", (event) => {
  const form = event.target;
  if (form.method !== "post") return;
  if (Date.now() - Number(form.dataset.sent ?? 0) < 2000) event.preventDefault();
  else form.dataset.sent = Date.now();
});

// Browsers keep the session's cookie only where nobody listens in.
if (!isSecureContext) document.getElementById("insecure")?.removeAttribute("hidden");
