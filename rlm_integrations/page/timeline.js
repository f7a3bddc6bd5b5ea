// The run over time: each run has a lane with its turns, and under it the lanes of its sub-calls, side by side.
const LANE = 15;
const GAP = 1;
const timeline = { from: 0, to: Math.max(data.seconds, 0.001), lanes: [], bars: new Map(), chosen: null };

(function layLanes() {
  const busy = [];
  const lanes = steps.map(() => 0);
  // A sub-call that starts as another ends is laid beside it, or the two would look like one.
  const free = (lane, step) => (busy[lane] ?? -1) < began(step);
  const order = steps.map((_, number) => number).sort((a, b) => began(steps[a]) - began(steps[b]) || a - b);
  for (const number of order) {
    const step = steps[number];
    const above = step.parent === null ? -1 : lanes[step.parent];
    let lane = step.kind === 'turn' && above >= 0 ? above : above + 1;
    if (step.kind !== 'turn') {
      while (!free(lane, step)) lane += 1;
      busy[lane] = ended(step);
    }
    lanes[number] = lane;
    const end = step.ended ?? (step.cell ? step.cell[0] : data.seconds);
    timeline.lanes[lane] ??= [];
    const kind = step.state === 'failed' ? `${step.kind} failed` : step.kind;
    const isReused = step.source !== 'model';
    timeline.lanes[lane].push({ number, kind: isReused ? `${kind} reused` : kind, from: began(step), to: end });
    if (step.cell) {
      const cell = step.state === 'raised' ? 'cell failed' : 'cell';
      timeline.lanes[lane].push({ number, kind: cell, from: step.cell[0], to: step.cell[1] ?? data.seconds });
    }
  }
})();

function drawTimeline() {
  const width = $('lanes').clientWidth;
  if (!width) return;
  const { from, to } = timeline;
  const x = (time) => ((time - from) / (to - from)) * width;
  timeline.bars.clear();
  const nodes = [];
  // Only the lanes on show are drawn: a run may have hundreds.
  const [top, height] = [$('lanes').scrollTop, $('lanes').clientHeight || 230];
  const first = Math.max(0, Math.floor(top / (LANE + GAP)) - 2);
  timeline.lanes.slice(first, Math.ceil((top + height) / (LANE + GAP)) + 2).forEach((bars, at) => {
    const lane = first + at;
    let last = null;
    for (const bar of bars) {
      const [left, right] = [x(bar.from), Math.max(x(bar.to), x(bar.from) + 2)];
      if (right < 0 || left > width) continue;
      // Bars too small to tell apart are one: there can be thousands of them.
      if (last && bar.kind !== 'run' && right - left < 3 && left < last.right + 1 && last.kind === bar.kind) {
        last.right = Math.max(last.right, right);
        last.numbers.push(bar.number);
        continue;
      }
      last = { kind: bar.kind, left, right, lane, numbers: [bar.number] };
      nodes.push(last);
    }
  });
  const lanes = $('lanes');
  const space = element('div', { class: 'space' }, ...nodes.map((bar) => drawBar(bar, width)));
  space.style.height = `${timeline.lanes.length * (LANE + GAP) + 2}px`;
  for (const time of data.resumed) {
    const mark = element('div', { class: 'resumed', title: 'The run was stopped and went on here' });
    mark.style.left = `${x(time)}px`;
    space.append(mark);
  }
  lanes.replaceChildren(space);
  lanes.setAttribute('aria-label', `Timeline of ${plural(steps.length, 'step', 'steps')} in ${duration(data.seconds)}`);
  drawAxis(width, x);
  markChosen();
}

function drawBar(bar, width) {
  const node = element('div', { class: `bar ${bar.kind}`, 'data-step': bar.numbers[0] });
  const left = Math.max(bar.left, -1);
  node.style.left = `${left}px`;
  node.style.width = `${Math.max(1, Math.min(bar.right, width + 1) - left - (bar.right - bar.left > 4 ? 1 : 0))}px`;
  node.style.top = `${bar.lane * (LANE + GAP) + 1}px`;
  for (const number of bar.numbers) {
    if (!timeline.bars.has(number)) timeline.bars.set(number, []);
    timeline.bars.get(number).push(node);
  }
  return node;
}

function describeBar(node) {
  const step = steps[Number(node.dataset.step)];
  const what = node.classList.contains('cell') ? `${step.name}, its cell` : step.name;
  const [from, to] = node.classList.contains('cell') ? step.cell : [began(step), step.ended];
  return `${what} · ${duration((to ?? data.seconds) - from)} · ${step.title}`;
}

function drawAxis(width, x) {
  const rough = (timeline.to - timeline.from) / Math.max(2, width / 110);
  const power = 10 ** Math.floor(Math.log10(rough));
  const gap = [1, 2, 5, 10].map((factor) => factor * power).find((step) => step >= rough) ?? rough;
  const ticks = [];
  for (let tick = Math.ceil(timeline.from / gap); tick * gap <= timeline.to && ticks.length < 100; tick += 1) {
    const node = element('span', {}, tick ? duration(tick * gap) : '0');
    node.style.left = `${x(tick * gap)}px`;
    ticks.push(node);
  }
  $('axis').replaceChildren(...ticks);
}

function markChosen() {
  for (const node of document.querySelectorAll('#lanes .bar.chosen')) node.classList.remove('chosen');
  for (const node of timeline.bars.get(tree.chosen) ?? []) node.classList.add('chosen');
}

function zoom(factor, at = (timeline.from + timeline.to) / 2) {
  const whole = Math.max(data.seconds, 0.001);
  const length = Math.min(whole, Math.max(whole / 10000, (timeline.to - timeline.from) * factor));
  const share = (at - timeline.from) / (timeline.to - timeline.from);
  timeline.from = Math.max(0, Math.min(whole - length, at - length * share));
  timeline.to = timeline.from + length;
  drawTimeline();
}

// Zooming goes to the chosen step where that is on show.
function middle() {
  const step = steps[tree.chosen];
  const at = (began(step) + ended(step)) / 2;
  return at > timeline.from && at < timeline.to ? at : undefined;
}

$('lanes').addEventListener('click', (event) => {
  if (event.target.dataset.step) choose(Number(event.target.dataset.step));
});
$('lanes').addEventListener('scroll', () => requestAnimationFrame(drawTimeline));
$('lanes').addEventListener('mouseover', (event) => {
  if (event.target.dataset.step) event.target.title = describeBar(event.target);
});
$('lanes').addEventListener(
  'wheel',
  (event) => {
    if (!event.ctrlKey && !event.metaKey) return;
    event.preventDefault();
    const box = $('lanes').getBoundingClientRect();
    const share = (event.clientX - box.left) / box.width;
    zoom(event.deltaY < 0 ? 0.8 : 1.25, timeline.from + share * (timeline.to - timeline.from));
  },
  { passive: false },
);
$('zoom-in').addEventListener('click', () => zoom(0.5, middle()));
$('zoom-out').addEventListener('click', () => zoom(2, middle()));
$('zoom-fit').addEventListener('click', () => zoom(Infinity));
new ResizeObserver(drawTimeline).observe($('lanes'));
