// What is searched for, where it stands, and its marks in what is on show.
const found = { pattern: null, steps: null, documents: null };
let haystacks = null;

const KINDS = {
  all: () => true,
  failed: (step) => step.state === 'failed' || step.state === 'raised',
  turn: (step) => step.kind === 'turn',
  call: (step) => step.kind === 'call',
  child: (step) => step.kind === 'run' && step.parent !== null,
  reused: (step) => step.source !== 'model',
};

function pattern(words) {
  return words ? new RegExp(words.replace(/[.*+?^${}()|[\]\\/]/g, '\\$&'), 'giu') : null;
}

// True where the text holds what is searched for; `g` would go on where it last stopped.
function holds(text) {
  found.pattern.lastIndex = 0;
  return found.pattern.test(text);
}

function search(words, kind) {
  found.pattern = pattern(words);
  const fits = KINDS[kind] ?? KINDS.all;
  if (!found.pattern) {
    found.documents = null;
    found.steps = kind === 'all' ? null : steps.flatMap((step, number) => (fits(step) ? [number] : []));
    return;
  }
  const of = new Map();
  haystacks ??= texts.map(plainText);
  const inText = (number) => {
    if (!of.has(number)) of.set(number, holds(haystacks[number]));
    return of.get(number);
  };
  const inStep = (step) =>
    holds(`${step.name} ${step.title} ${step.model}`) || step.parts.some((part) => inText(part[2]));
  found.steps = steps.flatMap((step, number) => (fits(step) && inStep(step) ? [number] : []));
  const inDocument = (document) =>
    holds(document.id) || document.pieces.some((piece) => Array.isArray(piece) && holds(piece[0]));
  found.documents = data.documents.map(inDocument);
}

// Marks without a change of the page, across the pieces that code is made of. Old browsers show none.
function markFound() {
  if (!window.CSS?.highlights) return;
  CSS.highlights.delete('found');
  if (!found.pattern) return;
  const ranges = [];
  for (const area of document.querySelectorAll('#summary .searched, #tree .title, #detail, #document')) {
    markIn(area, ranges);
  }
  if (ranges.length) CSS.highlights.set('found', new Highlight(...ranges));
}

function markIn(area, ranges) {
  const walker = document.createTreeWalker(area, NodeFilter.SHOW_TEXT);
  const nodes = [];
  let length = 0;
  while (walker.nextNode()) {
    nodes.push({ node: walker.currentNode, at: length });
    length += walker.currentNode.data.length;
  }
  const text = nodes.map(({ node }) => node.data).join('');
  let number = 0;
  const place = (offset, isEnd) => {
    while (number + 1 < nodes.length && nodes[number + 1].at + (isEnd ? 1 : 0) <= offset) number += 1;
    return [nodes[number].node, offset - nodes[number].at];
  };
  for (const match of text.matchAll(found.pattern)) {
    const range = document.createRange();
    range.setStart(...place(match.index, false));
    range.setEnd(...place(match.index + match[0].length, true));
    ranges.push(range);
    if (ranges.length === 2000) return;
  }
}
