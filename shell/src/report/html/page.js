// The crosshair: what the bucket under the pointer holds. The page is whole without it.
(function () {
  "use strict";
  var d = JSON.parse(document.getElementById("data").textContent);
  var svg = document.getElementById("chart"), cross = document.getElementById("cross"), tip = document.getElementById("tip");
  if (!svg) return;
  var at = -1;
  function row(name, value) {
    var line = document.createElement("div"), k = document.createElement("span"), v = document.createElement("b");
    k.className = "k"; k.textContent = name; v.textContent = value;
    line.append(k, v);
    tip.append(line);
  }
  function show(bucket) {
    at = Math.max(0, Math.min(d.len - 1, bucket));
    var x = d.left + (at + 0.5) * d.width / d.len, s = d.bucket_s;
    cross.setAttribute("x1", x); cross.setAttribute("x2", x); cross.removeAttribute("visibility");
    tip.textContent = "";
    row("time", (d.start_s + at * s).toFixed(1) + " to " + (d.start_s + (at + 1) * s).toFixed(1) + " s");
    d.faults.forEach(function (f) { if (f[1] <= at && at <= f[2]) row("fault", f[0]); });
    row("writes", Math.round(d.writes[at] / s) + "/s");
    row("reads", Math.round(d.reads[at] / s) + "/s");
    if (d.failed[at]) row("failed", d.failed[at]);
    if (d.doubt[at]) row("without an answer", d.doubt[at]);
    var l = d.latency[at];
    if (l) row("p50 / p95 / p99", l.join(" / ") + " ms");
    d.nodes.forEach(function (n) { row("n" + n[0] + " answered", Math.round(n[1][at] / s) + "/s"); });
    d.epsilon.forEach(function (n) { if (n[1][at] !== null) row("epsilon n" + n[0], n[1][at] + " ms"); });
    tip.hidden = false;
    var box = svg.getBoundingClientRect(), px = x / d.total * box.width;
    tip.style.left = (px > box.width / 2 ? px - tip.offsetWidth - 4 : px + 30) + "px";
    tip.style.top = "60px";
  }
  function hide() { at = -1; tip.hidden = true; cross.setAttribute("visibility", "hidden"); }
  svg.addEventListener("pointermove", function (e) {
    var box = svg.getBoundingClientRect(), x = (e.clientX - box.left) / box.width * d.total;
    if (x < d.left || x > d.left + d.width) hide(); else show(Math.floor((x - d.left) / d.width * d.len));
  });
  svg.addEventListener("pointerleave", hide);
  svg.addEventListener("blur", hide);
  svg.addEventListener("keydown", function (e) {
    if (e.key === "ArrowRight" || e.key === "ArrowLeft") { show(at + (e.key === "ArrowRight" ? 1 : -1)); e.preventDefault(); }
    if (e.key === "Escape") hide();
  });
  document.querySelectorAll("tr[data-f]").forEach(function (tr) {
    var band = document.getElementById("f" + tr.dataset.f);
    if (!band) return;
    tr.addEventListener("pointerenter", function () { band.classList.add("on"); });
    tr.addEventListener("pointerleave", function () { band.classList.remove("on"); });
  });
})();
