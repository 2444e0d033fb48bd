for (const plot of document.querySelectorAll(".plot")) {
  const [left, right] = plot.dataset.x.split(" ").map(Number), [low, high, log] = plot.dataset.y.split(" ").map(Number);
  const value = y => log ? low * (high / low) ** (1 - y / 1000) : low + (high - low) * (1 - y / 1000);
  const text = v => v === 0 ? "0" : Math.abs(v) >= 1e-3 && Math.abs(v) < 1e6 ? v.toPrecision(4) : v.toExponential(2);
  const lines = [...plot.querySelectorAll("path.line, path.level[data-name]")].reverse().map(path => ({
    path, points: (path.getAttribute("d").match(/[-\d.]+ [-\d.]+/g) || []).map(p => p.split(" ").map(Number)),
  })).filter(line => line.points.length);
  const tip = document.createElement("div"), ruler = document.createElement("div");
  [tip.className, ruler.className] = ["tip", "ruler"];
  plot.addEventListener("pointermove", event => {
    const box = plot.getBoundingClientRect(), x = (event.clientX - box.left) / box.width * 1000;
    const near = lines.map(({path, points}) => ({
      path, point: points.reduce((a, b) => Math.abs(b[0] - x) < Math.abs(a[0] - x) ? b : a),
    }));
    if (!near.length) return;
    const at = near.map(n => n.point[0]).reduce((a, b) => Math.abs(b - x) < Math.abs(a - x) ? b : a);
    tip.replaceChildren(`${plot.dataset.across} ${Math.round(left + (right - left) * at / 1000).toLocaleString("en")}`);
    for (const {path, point} of near) {
      const row = document.createElement("div"), dot = document.createElement("b");
      dot.className = path.getAttribute("class").split(" ")[1];
      row.append(dot, `${near.length > 1 ? path.dataset.name + " " : ""}${text(value(point[1]))}`);
      tip.append(row);
    }
    plot.append(ruler, tip);
    ruler.style.left = `${at / 10}%`;
    tip.style.left = at < 500 ? `calc(${at / 10}% + 8px)` : "auto";
    tip.style.right = at < 500 ? "auto" : `calc(${100 - at / 10}% + 8px)`;
  });
  plot.addEventListener("pointerleave", () => (tip.remove(), ruler.remove()));
}
