// Kernels of the engine `cudf` for the stage filter: the counts that scores of documents are made of. Each is the loop of
// the module of tasks/curation that its comment names; a thread does a document.
//
// Texts are UTF-8 bytes with bounds; counts have a row for each thing counted. What a code point is: bits 0 to 7 as in
// characters.py, 8 to 15 as in emoji.py, 16 to 23 as ends of lines, 24 to 31 as beginnings of items in line_shapes.py.

#define SPACE 0x01u
#define EMOJI(kind) ((kind) >> 8 & 0xFFu)
#define PICTURE 1u
#define KEYCAP_BASE 4u
#define JOINT 8u
#define ENDS_SENTENCE 0x010000u
#define ELLIPSIS 0x020000u
#define DOT 0x040000u
#define BULLET 0x01000000u
#define MARK 0x02000000u
#define DIGIT 0x04000000u
#define OPENS_NUMBER 0x08000000u
#define CLOSES_NUMBER 0x10000000u
#define SEPARATOR 0x20000000u
#define MAX_NUMBER_DIGITS 3

#define LINE_FEED 10u
#define TAB 9u
#define NOTHING 0xFFFFFFFFu

#define NUM_CLASSES 6  // of characters.py
enum { CHARACTERS = NUM_CLASSES, EMOJI_CHARACTERS, LINES, SENTENCE_ENDS, ELLIPSES, LINE_FEEDS };

__device__ __forceinline__ u32 decode(const u8* data, i64& position) {
  u32 lead = data[position++];
  if (lead < 0x80) return lead;
  u32 code = lead < 0xE0 ? lead & 0x1F : lead < 0xF0 ? lead & 0x0F : lead & 0x07;
  code = code << 6 | (data[position++] & 0x3F);
  if (lead >= 0xE0) code = code << 6 | (data[position++] & 0x3F);
  if (lead >= 0xF0) code = code << 6 | (data[position++] & 0x3F);
  return code;
}

// emoji.py: inside is whether the character before belongs to an emoji.
__device__ __forceinline__ bool is_emoji(u32 kind, bool inside, u32 before, u32 after) {
  if (kind == PICTURE) return after != 0xFE0E;
  if (kind == JOINT) return inside;
  if (kind == KEYCAP_BASE) return after == 0xFE0F || after == 0x20E3;
  return (inside && before == 0x200D) || after == 0xFE0F || (0x1F3FB <= after && after <= 0x1F3FF);
}

// characters.py, emoji.py and line_ends of line_shapes.py in one go. counts: the classes of characters.py by bit, then
// those of the enumeration.
extern "C" __global__ void count_characters(const u8* data, const i64* bounds, i64 num_documents, const u32* kinds,
                                            int* counts) {
  for (i64 document = FIRST_THREAD; document < num_documents; document += ALL_THREADS) {
    i64 position = bounds[document], end = bounds[document + 1];
    int classes[NUM_CLASSES] = {}, characters = 0, emoji = 0, lines = 0, sentence_ends = 0, ellipses = 0, feeds = 0;
    u32 code = 0, last = NOTHING;
    int run = 0;
    bool inside = false;
    while (position < end) {
      u32 before = code;
      code = decode(data, position);
      u32 kind = kinds[code];
      characters++;
      feeds += code == LINE_FEED;
#pragma unroll
      for (int bit = 0; bit < NUM_CLASSES; bit++) classes[bit] += kind >> bit & 1;
      i64 behind = position;
      inside = EMOJI(kind) && is_emoji(EMOJI(kind), inside, before, position < end ? decode(data, behind) : 0);
      emoji += inside;
      if (!(kind & SPACE)) {
        run = code == last ? run + 1 : 1;
        last = code;
      }
      if (last != NOTHING && (code == LINE_FEED || position == end)) {
        bool ellipsis = (kinds[last] & ELLIPSIS) || ((kinds[last] & DOT) && run >= 3);
        lines++;
        sentence_ends += (kinds[last] & ENDS_SENTENCE) && !ellipsis;
        ellipses += ellipsis;
        last = NOTHING;
        run = 0;
      }
    }
    for (int bit = 0; bit < NUM_CLASSES; bit++) counts[bit * num_documents + document] = classes[bit];
    counts[CHARACTERS * num_documents + document] = characters;
    counts[EMOJI_CHARACTERS * num_documents + document] = emoji;
    counts[LINES * num_documents + document] = lines;
    counts[SENTENCE_ENDS * num_documents + document] = sentence_ends;
    counts[ELLIPSES * num_documents + document] = ellipses;
    counts[LINE_FEEDS * num_documents + document] = feeds;
  }
}

// line_shapes.py: whether a line from its first visible character on begins with a bullet, a mark or a number.
__device__ bool is_item(const u8* data, i64 position, i64 stop, const u32* kinds) {
  u32 code = decode(data, position);
  if (kinds[code] & BULLET) return true;
  if (kinds[code] & MARK) return position < stop && (kinds[decode(data, position)] & SPACE);
  if (kinds[code] & OPENS_NUMBER) {
    if (position == stop) return false;
    code = decode(data, position);
  }
  int num_digits = 0;
  while ((kinds[code] & DIGIT) && num_digits <= MAX_NUMBER_DIGITS && position < stop) {
    num_digits++;
    code = decode(data, position);
  }
  if (num_digits < 1 || num_digits > MAX_NUMBER_DIGITS || !(kinds[code] & CLOSES_NUMBER)) return false;
  return position == stop || !(kinds[decode(data, position)] & DIGIT);
}

// Whether a line has two separators apart from each other, or a tab between characters.
__device__ bool is_row(const u8* data, i64 position, i64 stop, const u32* kinds) {
  int num_separators = 0;
  bool tab = false, before = false;
  while (position < stop) {
    u32 code = decode(data, position);
    bool separator = kinds[code] & SEPARATOR;
    num_separators += separator && !before;
    before = separator;
    if (tab && !(kinds[code] & SPACE)) return true;
    tab = tab || code == TAB;
  }
  return num_separators >= 2;
}

// list_line_share of line_shapes.py. counts: items and rows; lines are LINES of count_characters.
extern "C" __global__ void count_list_lines(const u8* data, const i64* bounds, i64 num_documents, const u32* kinds,
                                            int* counts) {
  for (i64 document = FIRST_THREAD; document < num_documents; document += ALL_THREADS) {
    int items = 0;
    i64 end = bounds[document + 1];
    for (i64 first = bounds[document], stop; first < end; first = stop + 1) {
      stop = first;
      while (stop < end && data[stop] != LINE_FEED) stop++;
      for (i64 behind = first; first < stop; first = behind)
        if (!(kinds[decode(data, behind)] & SPACE)) break;
      items += first < stop && (is_item(data, first, stop, kinds) || is_row(data, first, stop, kinds));
    }
    counts[document] = items;
  }
}

// Bits of a byte, as in links.py.
#define IN_URL 1
#define CLOSES_SENTENCE 2
#define IN_LOCAL_PART 4
#define IN_DOMAIN 8
#define LETTER 16
#define ALPHANUMERIC 32

// Whether a word, lower case, stands at a place in any case.
__device__ bool matches(const u8* data, i64 place, i64 end, const char* word, int size) {
  if (end - place < size) return false;
  for (int index = 0; index < size; index++) {
    u8 byte = data[place + index];
    if ('A' <= byte && byte <= 'Z') byte |= 0x20;
    if (byte != (u8)word[index]) return false;
  }
  return true;
}

// Where the web address at a place ends; that place if there is none.
__device__ i64 web_address_end(const u8* data, i64 start, i64 end, const u8* bits) {
  u8 first = data[start] | 0x20;
  int size = 0;
  if (first == 'w') size = matches(data, start, end, "www.", 4) ? 4 : 0;
  else if (first == 'f') size = matches(data, start, end, "ftp://", 6) ? 6 : 0;
  else if (first == 'h')
    size = matches(data, start, end, "http://", 7) ? 7 : matches(data, start, end, "https://", 8) ? 8 : 0;
  if (!size) return start;
  i64 stop = start + size;
  while (stop < end && (bits[data[stop]] & IN_URL)) stop++;
  while (stop > start + size && (bits[data[stop - 1]] & CLOSES_SENTENCE)) stop--;
  return stop > start + size ? stop : start;
}

// Start and end of the e-mail address around the @ at a place; the end is that place if there is none.
__device__ i64 mail_address(const u8* data, i64 at, i64 free, i64 end, const u8* bits, i64& first) {
  i64 last = at + 1;
  first = at;
  while (first > free && (bits[data[first - 1]] & IN_LOCAL_PART)) first--;
  while (last < end && (bits[data[last]] & IN_DOMAIN)) last++;
  while (last > at + 1 && (data[last - 1] == '.' || data[last - 1] == '-')) last--;
  i64 label = last;
  while (label > at + 1 && (bits[data[label - 1]] & LETTER)) label--;
  bool whole = first < at && last - label >= 2 && label > at + 2 && data[label - 1] == '.';
  return whole ? last : at;
}

// address_share of links.py. counts: characters in addresses.
extern "C" __global__ void count_addresses(const u8* data, const i64* bounds, i64 num_documents, const u8* bits,
                                           int* counts) {
  for (i64 document = FIRST_THREAD; document < num_documents; document += ALL_THREADS) {
    i64 start = bounds[document], end = bounds[document + 1], free = start;
    int hits = 0;
    for (i64 place = start; place < end;) {
      i64 first = place, stop = place;
      if (data[place] == '@') stop = mail_address(data, place, free, end, bits, first);
      else if (data[place] < 0x80 && (place == start || !(bits[data[place - 1]] & ALPHANUMERIC)))
        stop = web_address_end(data, place, end, bits);
      if (stop > place) {
        hits += stop - first;
        place = free = stop;
      } else place++;
    }
    counts[document] = hits;
  }
}
