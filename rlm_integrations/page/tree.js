// The tree of steps. Only the rows on show are in the page, so a run may have any number of steps.
const ROW = 30;
const MORE_ROWS = 8;
const MAX_INDENT = 14;
const OPEN_ALL = 40;

const tree = {
  box: $('tree'),
  children: steps.map(() => []),
  roots: [],
  levels: steps.map(() => 1),
  places: steps.map(() => 1),
  open: new Set(),
  kept: null,
  openFound: new Set(),
  rows: [],
  at: new Map(),
  chosen: 0,
  linking: 0,
};

steps.forEach((step, number) => {
  const siblings = step.parent === null ? tree.roots : tree.children[step.parent];
  siblings.push(number);
  tree.places[number] = siblings.length;
  if (step.parent !== null) tree.levels[number] = tree.levels[step.parent] + 1;
  if (step.parent === null || steps.length <= OPEN_ALL) tree.open.add(number);
});

const siblingsOf = (number) => (steps[number].parent === null ? tree.roots : tree.children[steps[number].parent]);
const opened = () => (tree.kept ? tree.openFound : tree.open);
const shownChildren = (number) =>
  tree.kept ? tree.children[number].filter((child) => tree.kept.has(child)) : tree.children[number];

// The steps that are found, and those above them.
function filterTree() {
  tree.kept = null;
  if (found.steps) {
    tree.kept = new Set();
    tree.openFound = new Set();
    for (const number of found.steps) {
      tree.kept.add(number);
      for (let above = steps[number].parent; above !== null; above = steps[above].parent) {
        tree.kept.add(above);
        if (tree.openFound.has(above)) break;
        tree.openFound.add(above);
      }
    }
  }
  layTree();
}

function layTree() {
  const rows = [];
  const stack = tree.roots.filter((number) => !tree.kept || tree.kept.has(number)).reverse();
  while (stack.length) {
    const number = stack.pop();
    rows.push(number);
    if (opened().has(number)) {
      const below = shownChildren(number);
      for (let at = below.length - 1; at >= 0; at -= 1) stack.push(below[at]);
    }
  }
  tree.rows = rows;
  tree.at = new Map(rows.map((number, row) => [number, row]));
  drawTree();
}

function drawTree() {
  const first = Math.max(0, Math.floor(tree.box.scrollTop / ROW) - MORE_ROWS);
  const last = Math.min(tree.rows.length, Math.ceil((tree.box.scrollTop + tree.box.clientHeight) / ROW) + MORE_ROWS);
  const space = element('div', { class: 'space', role: 'presentation' });
  space.style.height = `${tree.rows.length * ROW}px`;
  for (let row = first; row < last; row += 1) space.append(treeRow(tree.rows[row], row));
  if (!tree.rows.length) space.append(element('p', { class: 'nothing' }, 'No step matches.'));
  tree.box.replaceChildren(space);
  const isOnShow = tree.at.has(tree.chosen) && tree.at.get(tree.chosen) >= first && tree.at.get(tree.chosen) < last;
  if (isOnShow) tree.box.setAttribute('aria-activedescendant', `step-${tree.chosen}`);
  else tree.box.removeAttribute('aria-activedescendant');
  markFound();
}

function treeRow(number, row) {
  const step = steps[number];
  const below = shownChildren(number).length;
  const node = element(
    'div',
    {
      role: 'treeitem',
      id: `step-${number}`,
      class: `row ${step.kind} ${step.state}${step.source === 'model' ? '' : ' reused'}`,
      'aria-level': tree.levels[number],
      'aria-setsize': siblingsOf(number).length,
      'aria-posinset': tree.places[number],
      'aria-selected': number === tree.chosen ? 'true' : 'false',
      'aria-expanded': below ? String(opened().has(number)) : null,
      click: (event) => {
        if (event.target.classList.contains('twist') || event.detail === 2) toggle(number);
        choose(number);
      },
    },
    element('span', { class: 'twist', 'aria-hidden': 'true' }),
    element('span', { class: 'dot', 'aria-hidden': 'true' }),
    element('span', { class: 'name' }, step.name),
    step.state === 'complete' ? null : element('span', { class: 'state' }, STATES[step.state]),
    step.source === 'model' ? null : element('span', { class: 'state' }, `from ${step.source}`),
    element('span', { class: 'title' }, step.title),
    below ? element('span', { class: 'below', title: plural(below, 'step', 'steps') }, count(below)) : null,
    step.usage ? element('span', { class: 'tokens' }, `${count(step.usage[0] + step.usage[1])} tok`) : null,
    element('span', { class: 'took' }, duration(Math.max(0, ended(step) - began(step)))),
  );
  node.style.top = `${row * ROW}px`;
  node.style.setProperty('--level', Math.min(tree.levels[number], MAX_INDENT) - 1);
  return node;
}

function toggle(number, to = !opened().has(number)) {
  if (!shownChildren(number).length) return;
  if (to) opened().add(number);
  else opened().delete(number);
  layTree();
}

// Chooses a step, and brings its row and its detail on show.
function choose(number) {
  tree.chosen = number;
  let isNew = false;
  for (let above = steps[number].parent; above !== null; above = steps[above].parent) {
    if (!opened().has(above)) isNew = Boolean(opened().add(above));
  }
  if (isNew) layTree();
  const row = tree.at.get(number);
  if (row !== undefined) {
    const [top, height] = [tree.box.scrollTop, tree.box.clientHeight];
    if (row * ROW < top) tree.box.scrollTop = row * ROW;
    else if ((row + 1) * ROW > top + height) tree.box.scrollTop = (row + 1) * ROW - height;
  }
  drawTree();
  showDetail(number);
  markChosen();
  // A browser counts these, and holds a page back that goes through many steps at once.
  clearTimeout(tree.linking);
  tree.linking = setTimeout(() => history.replaceState(null, '', `#step-${tree.chosen}`), 200);
}

function move(by) {
  const row = tree.at.get(tree.chosen) ?? 0;
  const to = Math.max(0, Math.min(tree.rows.length - 1, row + by));
  if (tree.rows.length) choose(tree.rows[to]);
}

const TREE_KEYS = {
  ArrowDown: () => move(1),
  ArrowUp: () => move(-1),
  PageDown: () => move(Math.floor(tree.box.clientHeight / ROW) - 1),
  PageUp: () => move(1 - Math.floor(tree.box.clientHeight / ROW)),
  Home: () => move(-tree.rows.length),
  End: () => move(tree.rows.length),
  ArrowRight: () => {
    const below = shownChildren(tree.chosen);
    if (below.length && opened().has(tree.chosen)) choose(below[0]);
    else toggle(tree.chosen, true);
  },
  ArrowLeft: () => {
    if (opened().has(tree.chosen) && shownChildren(tree.chosen).length) toggle(tree.chosen, false);
    else if (steps[tree.chosen].parent !== null) choose(steps[tree.chosen].parent);
  },
  '*': () => {
    for (const number of siblingsOf(tree.chosen)) if (shownChildren(number).length) opened().add(number);
    layTree();
  },
  ' ': () => toggle(tree.chosen),
  Enter: () => {
    toggle(tree.chosen, true);
    $('detail').focus();
  },
};

tree.box.addEventListener('scroll', () => requestAnimationFrame(drawTree));
tree.box.addEventListener('keydown', (event) => {
  const act = TREE_KEYS[event.key];
  if (!act || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  act();
});
