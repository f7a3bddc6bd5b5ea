// The summary, the tabs, the search field, the colours; and the first look.
const TABS = ['steps', 'evidence', 'usage'];

function drawSummary() {
  const { totals, state } = data;
  const facts = [
    [duration(data.seconds), 'time'],
    [count(data.turns), data.turns === 1 ? 'turn' : 'turns'],
    [count(totals.all.calls), totals.all.calls === 1 ? 'model call' : 'model calls'],
    totals.all.reused ? [count(totals.all.reused), 'reused'] : null,
    [count(totals.all.input), 'tokens in'],
    [count(totals.all.output), 'tokens out'],
    [cost(totals.all.cost), totals.all.cost === null ? 'no price known' : 'cost'],
  ];
  const chips = data.citations.map((_, at) =>
    element(
      'button',
      { type: 'button', class: 'number', 'aria-label': `Citation ${at + 1}`, click: () => showCitation(at) },
      String(at + 1),
    ),
  );
  $('summary').replaceChildren(
    ...data.notices.map((notice) => element('p', { class: 'notice' }, notice)),
    element(
      'div',
      { class: 'facts-row' },
      element('span', { class: `pill ${state}` }, STATES[state]),
      data.began ? element('span', { class: 'began' }, data.began) : null,
    ),
    element('h1', { dir: 'auto', class: 'searched' }, data.question),
    data.answer === null
      ? element('p', { class: 'no-answer' }, data.error ?? 'There is no answer.')
      : element(
          'div',
          { class: 'answer' },
          element('div', { dir: 'auto', class: 'searched' }, data.answer),
          chips.length ? element('p', { class: 'chips' }, 'Evidence ', ...chips) : '',
        ),
    element(
      'dl',
      { id: 'facts' },
      ...facts
        .filter(Boolean)
        .map(([value, name]) => element('div', {}, element('dt', {}, name), element('dd', {}, value))),
    ),
  );
  const shades = {
    turn: 'model, a turn',
    cell: 'code',
    call: 'sub-call',
    run: 'child run',
    failed: 'failed',
    reused: 'reused',
  };
  for (const [kind, name] of Object.entries(shades))
    $('legend').append(element('span', { class: `key ${kind}` }), `${name} `);
}

function selectTab(name, focus = false) {
  for (const tab of TABS) {
    const isChosen = tab === name;
    $(tab).hidden = !isChosen;
    $(`tab-${tab}`).setAttribute('aria-selected', String(isChosen));
    $(`tab-${tab}`).tabIndex = isChosen ? 0 : -1;
    if (isChosen && focus) $(`tab-${tab}`).focus();
  }
  if (name === 'evidence' && !$('document').childElementCount && data.documents.length) showDocument(0);
  if (name === 'steps') drawTree();
}

function find() {
  search($('search').value.trim(), $('filter').value);
  filterTree();
  drawSources();
  if (found.steps?.length && !tree.at.has(tree.chosen)) choose(found.steps[0]);
  else showDetail(tree.chosen);
  if (shownDocument.number !== null && !$('evidence').hidden) markFound();
  const parts = found.steps ? [plural(found.steps.length, 'step', 'steps')] : [];
  if (found.documents) parts.push(plural(found.documents.filter(Boolean).length, 'document', 'documents'));
  $('found').textContent = parts.join(', ');
}

// The next step that was found, after the chosen one in the tree's order.
function nextFound(by) {
  const order = found.steps ? [...found.steps] : [];
  if (!order.length) return;
  const at = order.indexOf(tree.chosen);
  const next = at < 0 ? order.findIndex((number) => number > tree.chosen) : at + by;
  selectTab('steps');
  choose(order[((next % order.length) + order.length) % order.length]);
}

function setColours(isDark) {
  document.documentElement.style.colorScheme = isDark ? 'dark' : 'light';
  $('theme').setAttribute('aria-pressed', String(isDark));
}

for (const tab of TABS) {
  $(`tab-${tab}`).addEventListener('click', () => selectTab(tab));
  $(`tab-${tab}`).addEventListener('keydown', (event) => {
    const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (by) selectTab(TABS[(TABS.indexOf(tab) + by + TABS.length) % TABS.length], true);
  });
}
let waiting = 0;
$('search').addEventListener('input', () => {
  clearTimeout(waiting);
  // In a large run the next letter may come before the search for this one is over.
  if (steps.length > 1000) waiting = setTimeout(find, 150);
  else find();
});
$('search').addEventListener('keydown', (event) => {
  if (event.key === 'Enter') {
    event.preventDefault();
    clearTimeout(waiting);
    if (!event.isComposing) find();
    nextFound(event.shiftKey ? -1 : 1);
  } else if (event.key === 'ArrowDown') {
    event.preventDefault();
    selectTab('steps');
    tree.box.focus();
  }
});
$('filter').addEventListener('change', find);
$('theme').addEventListener('click', () => setColours($('theme').getAttribute('aria-pressed') !== 'true'));
document.addEventListener('keydown', (event) => {
  const isTyping = event.target.matches('input, select');
  if (event.key === '/' && !isTyping && !event.ctrlKey && !event.metaKey) {
    event.preventDefault();
    $('search').focus();
    $('search').select();
  } else if (event.key === 'Escape') {
    if ($('search').value) {
      $('search').value = '';
      find();
    }
    selectTab('steps');
    tree.box.focus();
  }
});

document.title = data.title ? `${data.title} · RLM run` : 'RLM run';
$('theme').setAttribute('aria-pressed', String(matchMedia('(prefers-color-scheme: dark)').matches));
drawSummary();
$('tab-evidence').append(element('span', { class: 'below' }, count(data.citations.length)));
$('tab-steps').append(element('span', { class: 'below' }, count(steps.length)));
drawUsage();
drawSources();
layTree();
const linked = Number(/^#step-(\d+)$/.exec(location.hash)?.[1] ?? tree.roots[0]);
choose(steps[linked] ? linked : tree.roots[0]);
drawTimeline();
