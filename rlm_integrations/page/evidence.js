// Citations, and the documents they stand in.
const shownDocument = { number: null };

function drawSources() {
  const cited = data.citations.map((citation, at) =>
    element(
      'li',
      {},
      element(
        'button',
        { type: 'button', class: 'source quote', id: `source-${at + 1}`, click: () => showCitation(at) },
        element('span', { class: 'number' }, String(at + 1)),
        element('q', { dir: 'auto' }, citation.quote),
        element('span', { class: 'place' }, `${citation.id} · character ${count(citation.start)}`),
      ),
    ),
  );
  const documents = data.documents.map((document, number) => {
    const isFound = !found.documents || found.documents[number];
    return isFound
      ? element(
          'li',
          {},
          element(
            'button',
            {
              type: 'button',
              class: 'source',
              'aria-pressed': String(number === shownDocument.number),
              click: () => showDocument(number),
            },
            element('span', { class: 'id' }, document.id),
            document.marks.length ? element('span', { class: 'below' }, `${count(document.marks.length)} cited`) : null,
            element('span', { class: 'place' }, plural(document.chars, 'character', 'characters')),
          ),
        )
      : null;
  });
  const shown = documents.filter(Boolean);
  const more = data.documents_left_out;
  $('sources').replaceChildren(
    element('h2', {}, plural(cited.length, 'citation', 'citations')),
    cited.length ? element('ol', {}, ...cited) : element('p', { class: 'nothing' }, 'The answer cites nothing.'),
    element(
      'h2',
      {},
      found.documents
        ? `${count(shown.length)} of ${count(documents.length)} documents`
        : plural(documents.length, 'document', 'documents'),
    ),
    documents.length
      ? element('ol', {}, ...shown)
      : element(
          'p',
          { class: 'nothing' },
          'The record holds no documents. To see the passages in them: rlm export run.jsonl run.html PATH...',
        ),
    more
      ? element('p', { class: 'nothing' }, `${plural(more, 'more document is', 'more documents are')} not shown.`)
      : '',
  );
}

function showDocument(number) {
  shownDocument.number = number;
  const { id, about, chars, marks, pieces } = data.documents[number];
  const strip = element('div', { class: 'strip', 'aria-hidden': 'true' });
  for (const [citation, start] of marks) {
    const mark = element('button', {
      type: 'button',
      tabindex: -1,
      title: `Citation ${citation}`,
      click: () => goTo(citation),
    });
    mark.style.left = `${(100 * start) / Math.max(1, chars)}%`;
    strip.append(mark);
  }
  const text = element('pre', { dir: 'auto' });
  const begun = new Set();
  for (const piece of pieces) {
    if (!Array.isArray(piece)) {
      text.append(element('span', { class: 'left-out' }, `${plural(piece, 'character', 'characters')} not shown here`));
      continue;
    }
    const [part, numbers] = piece;
    if (!numbers.length) {
      text.append(part);
      continue;
    }
    const mark = element('mark', { 'data-citations': numbers.join(' ') });
    for (const citation of numbers.filter((each) => !begun.has(each))) {
      begun.add(citation);
      mark.append(element('a', { class: 'number', id: `citation-${citation}` }, String(citation)));
    }
    mark.append(part);
    text.append(mark);
  }
  $('document').replaceChildren(
    element(
      'header',
      {},
      element('h2', {}, id),
      element(
        'p',
        { class: 'facts' },
        [plural(chars, 'character', 'characters'), `${count(marks.length)} cited`, about].filter(Boolean).join(' · '),
      ),
      marks.length ? strip : '',
    ),
    text,
  );
  $('document').scrollTop = 0;
  drawSources();
  markFound();
}

function goTo(citation) {
  for (const mark of $('document').querySelectorAll('mark')) {
    mark.classList.toggle('chosen', mark.dataset.citations.split(' ').includes(String(citation)));
  }
  const place = $(`citation-${citation}`);
  if (place)
    $('document').scrollTop += place.getBoundingClientRect().top - $('document').getBoundingClientRect().top - 180;
}

function showCitation(at) {
  selectTab('evidence');
  const { document, id, start, end, quote } = data.citations[at];
  if (document === null) {
    shownDocument.number = null;
    const why = data.documents.length
      ? 'The documents given do not hold this passage at its place.'
      : 'The document is not at hand; this is the passage as the run found it.';
    $('document').replaceChildren(
      element(
        'header',
        {},
        element('h2', {}, id),
        element('p', { class: 'facts' }, `characters ${count(start)} to ${count(end)}`),
      ),
      element('p', { class: 'notice' }, why),
      element(
        'pre',
        { dir: 'auto' },
        element('mark', { class: 'chosen' }, element('a', { class: 'number' }, String(at + 1)), quote),
      ),
    );
    drawSources();
    return;
  }
  if (shownDocument.number !== document) showDocument(document);
  goTo(at + 1);
}
