// All about the chosen step.
const CHARS_AT_ONCE = 20000;

function showDetail(number) {
  const step = steps[number];
  const facts = [
    step.model,
    `depth ${step.depth}`,
    `${duration(Math.max(0, ended(step) - began(step)))} from ${duration(began(step))}`,
  ];
  if (step.usage) {
    const [input, output, cached, usd] = step.usage;
    facts.push(`${plural(input, 'token', 'tokens')} in${cached ? ` (${count(cached)} cached)` : ''}, ${count(output)} out`);
    if (usd !== null) facts.push(cost(usd));
  }
  if (step.kind === 'run') facts.push(plural(step.turns, 'turn', 'turns'));
  $('detail').replaceChildren(
    element(
      'header',
      {},
      element('h2', {}, step.name, ' ', element('span', { class: `pill ${step.state}` }, STATES[step.state])),
      element('p', { class: 'facts' }, facts.filter(Boolean).join(' · ')),
    ),
    ...step.parts.map(([heading, kind, text, isOpen]) => section(heading, kind, texts[text], isOpen)),
  );
  $('detail').scrollTop = 0;
  markFound();
}

function section(heading, kind, text, isOpen) {
  const plain = plainText(text);
  const isFound = found.pattern && holds(plain);
  const node = element('details', { class: `part ${kind}` });
  node.append(
    element(
      'summary',
      {},
      heading,
      element('span', { class: 'size' }, plural(plain.length, 'character', 'characters')),
    ),
  );
  const fill = () => node.childElementCount === 1 && node.append(body(text, plain, isFound));
  node.addEventListener('toggle', () => {
    fill();
    markFound();
  });
  if (isOpen || isFound) {
    node.open = true;
    fill();
  }
  return node;
}

// A long text shows its head first, since to lay out a million characters takes a second.
function body(text, plain, all) {
  if (plain.length <= CHARS_AT_ONCE || all) return element('pre', { dir: 'auto' }, ...textNodes(text));
  const pre = element('pre', { dir: 'auto' }, plain.slice(0, CHARS_AT_ONCE), '…');
  const more = () => {
    pre.replaceChildren(...textNodes(text));
    button.remove();
    markFound();
  };
  const button = element(
    'button',
    { type: 'button', class: 'more', click: more },
    `Show all ${count(plain.length)} characters`,
  );
  return element('div', {}, pre, button);
}
