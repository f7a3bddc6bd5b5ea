// Tokens and cost: in all, by depth, by model; and what the run was made with.
const USAGE_HEADS = ['calls', 'reused', 'tokens in', 'cached', 'tokens out', 'cost'];

function usageTable(heading, groups) {
  const most = Math.max(1, data.totals.all.input + data.totals.all.output);
  const cells = (group) => [group.calls, group.reused, group.input, group.cached, group.output].map(count);
  const row = (group) =>
    element(
      'tr',
      {},
      element('th', { scope: 'row' }, group.name),
      element('td', { class: 'share' }, usageBar(group, most)),
      ...[...cells(group), cost(group.cost)].map((text) => element('td', {}, text)),
    );
  const heads = ['', '', ...USAGE_HEADS].map((text) => element('th', { scope: 'col' }, text));
  return element(
    'section',
    { class: 'card' },
    element('h2', {}, heading),
    element(
      'div',
      { class: 'scroll' },
      element(
        'table',
        {},
        element('thead', {}, element('tr', {}, ...heads)),
        element('tbody', {}, ...groups.map(row)),
        element('tfoot', {}, row(data.totals.all)),
      ),
    ),
  );
}

function usageBar(group, most) {
  const parts = { cached: group.cached, input: group.input - group.cached, output: group.output };
  const bar = element('div', { class: 'stack', 'aria-hidden': 'true' });
  for (const [kind, tokens] of Object.entries(parts)) {
    if (tokens <= 0) continue;
    const part = element('span', { class: kind, title: `${count(tokens)} tokens: ${kind}` });
    part.style.width = `${(100 * tokens) / most}%`;
    bar.append(part);
  }
  return bar;
}

function drawUsage() {
  const { totals, settings } = data;
  const legend = element('p', { class: 'legend' });
  for (const kind of ['cached', 'input', 'output'])
    legend.append(element('span', { class: `key ${kind}` }), `${kind} `);
  $('usage').replaceChildren(legend, usageTable('By depth', totals.by_depth), usageTable('By model', totals.by_model));
  if (!settings.length) return;
  const rows = settings.flatMap(([name, value]) => [element('dt', {}, name), element('dd', {}, value)]);
  $('usage').append(
    element('section', { class: 'card' }, element('h2', {}, 'Settings of the run'), element('dl', {}, ...rows)),
  );
}
