// Kernels of the engine `cudf` for the stage filter: how much of a document repeats, as tasks/curation/repeats.py has it,
// with its hashes. A thread does a document, and has a part of a table for it. Definitions are in score_kernels.cu.

#define REPEAT_BASE 6364136223846793005ull
#define BLANK 32u

// The next character that is not white space, and the place behind it; there is one.
__device__ __forceinline__ u32 next_visible(const u8* data, i64& position, const u32* kinds) {
  u32 code;
  do code = decode(data, position);
  while (kinds[code] & SPACE);
  return code;
}

// A set of hashes: an open table, of which a document has the slots from slots[document] on, more than its entries.
struct HashSet {
  u64* values;
  u32* stamps;  // of the set that a slot belongs to, zeroes before
  u64 size;
};

__device__ __forceinline__ u64 slot_of(u64 value, u64 size) { return (mixed(value) >> 32) * size >> 32; }

// Adds a value to the set of that stamp; whether it was there.
__device__ bool add(HashSet set, u32 stamp, u64 value) {
  u64 slot = slot_of(value, set.size);
  while (set.stamps[slot] == stamp) {
    if (set.values[slot] == value) return true;
    if (++slot == set.size) slot = 0;
  }
  set.values[slot] = value;
  set.stamps[slot] = stamp;
  return false;
}

__device__ __forceinline__ u64 power(u64 base, int exponent) {
  u64 product = 1;
  for (int index = 0; index < exponent; index++) product *= base;
  return product;
}

// repeated_ngram_share of repeats.py. counts: n-grams, repeated ones. visible: characters that are not white space.
extern "C" __global__ void count_repeated_ngrams(const u8* data, const i64* bounds, i64 num_documents, const u32* kinds,
                                                 const int* visible, int ngram, int window, const i64* slots,
                                                 u64* values, u32* stamps, int* counts) {
  u64 last_power = power(REPEAT_BASE, ngram);
  for (i64 document = FIRST_THREAD; document < num_documents; document += ALL_THREADS) {
    i64 position = bounds[document], tail = position, first = slots[document];
    HashSet set = {values + first, stamps + first, (u64)(slots[document + 1] - first)};
    int count = 0, total = 0, repeated = 0;
    u32 stamp = 1;
    u64 rolling = 0;
    for (int index = 0; index < visible[document]; index++, count++) {
      if (count == window) {
        stamp++;
        count = 0;
        rolling = 0;
        tail = position;
      }
      rolling = rolling * REPEAT_BASE + next_visible(data, position, kinds) + 1;
      if (count >= ngram) rolling -= (u64)(next_visible(data, tail, kinds) + 1) * last_power;
      if (count >= ngram - 1) {
        total++;
        repeated += add(set, stamp, rolling);
      }
    }
    counts[document] = total;
    counts[num_documents + document] = repeated;
  }
}

// top_ngram_share of repeats.py. counts: characters that the most frequent n-gram of each window covers. Of a slot,
// `entries` has the stamp, how often the n-gram occurs, and where in the window the next one may start.
extern "C" __global__ void count_top_ngrams(const u8* data, const i64* bounds, i64 num_documents, const u32* kinds,
                                            const int* visible, int ngram, int window, const i64* slots, u64* values,
                                            u32* entries, int* counts) {
  u64 last_power = power(REPEAT_BASE, ngram);
  for (i64 document = FIRST_THREAD; document < num_documents; document += ALL_THREADS) {
    i64 position = bounds[document], tail = position;
    u64 size = slots[document + 1] - slots[document], rolling = 0;
    u64* keys = values + slots[document];
    u32* rows = entries + 3 * slots[document];
    u32 best = 1, stamp = 1;
    int count = 0, covered = 0;
    for (int index = 0; index < visible[document]; index++, count++) {
      if (count == window) {
        covered += best > 1 ? ngram * best : 0;
        stamp++;
        best = 1;
        count = 0;
        rolling = 0;
        tail = position;
      }
      rolling = rolling * REPEAT_BASE + next_visible(data, position, kinds) + 1;
      if (count >= ngram) rolling -= (u64)(next_visible(data, tail, kinds) + 1) * last_power;
      if (count < ngram - 1) continue;
      u64 slot = slot_of(rolling, size);
      while (rows[3 * slot] == stamp && keys[slot] != rolling)
        if (++slot == size) slot = 0;
      u32* row = rows + 3 * slot;
      u32 start = count - ngram + 1;
      if (row[0] != stamp) {
        keys[slot] = rolling;
        row[0] = stamp;
        row[1] = 1;
        row[2] = start + ngram;
      } else if (start >= row[2]) {
        row[1]++;
        row[2] = start + ngram;
        best = best > row[1] ? best : row[1];
      }
    }
    counts[document] = covered + (best > 1 ? ngram * best : 0);
  }
}

// repeated_line_share of repeats.py. counts: bytes of lines, of repeated ones.
extern "C" __global__ void count_repeated_lines(const u8* data, const i64* bounds, i64 num_documents, const i64* slots,
                                                u64* values, u32* stamps, int* counts) {
  for (i64 document = FIRST_THREAD; document < num_documents; document += ALL_THREADS) {
    i64 end = bounds[document + 1], slot = slots[document];
    HashSet set = {values + slot, stamps + slot, (u64)(slots[document + 1] - slot)};
    int total = 0, repeated = 0;
    for (i64 first = bounds[document], stop; first < end; first = stop + 1) {
      stop = first;
      while (stop < end && data[stop] != LINE_FEED) stop++;
      i64 last = stop;
      while (first < last && (data[first] == BLANK || data[first] == TAB)) first++;
      while (last > first && (data[last - 1] == BLANK || data[last - 1] == TAB)) last--;
      if (last == first) continue;
      u64 value = last - first;
      for (i64 place = first; place < last; place++) value = value * REPEAT_BASE + data[place] + 1;
      total += last - first;
      if (add(set, 1, value)) repeated += last - first;
    }
    counts[document] = total;
    counts[num_documents + document] = repeated;
  }
}

// repeated_paragraph_share of repeats.py. counts: characters of repeated paragraphs.
extern "C" __global__ void count_repeated_paragraphs(const u8* data, const i64* bounds, i64 num_documents,
                                                     const u32* kinds, const i64* slots, u64* values, u32* stamps,
                                                     int* counts) {
  for (i64 document = FIRST_THREAD; document < num_documents; document += ALL_THREADS) {
    i64 position = bounds[document], end = bounds[document + 1], slot = slots[document];
    HashSet set = {values + slot, stamps + slot, (u64)(slots[document + 1] - slot)};
    int repeated = 0, count = 0;
    u64 value = 0;
    bool line_is_blank = true;
    while (position < end) {
      u32 code = decode(data, position);
      if (!(kinds[code] & SPACE)) {
        value = value * REPEAT_BASE + code + 1;
        count++;
        line_is_blank = false;
      }
      bool ends = position == end || (code == LINE_FEED && line_is_blank);
      if (code == LINE_FEED) line_is_blank = true;
      if (!ends || !count) continue;
      if (add(set, 1, value)) repeated += count;
      count = 0;
      value = 0;
    }
    counts[document] = repeated;
  }
}
