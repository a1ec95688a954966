// Kernel of the engine `cudf` for the filter language: the rows of the fastText model that belong to the words and
// n-grams of a line, added up in the order of the text, as tasks/curation/language_probabilities.py does.

#define DIMENSIONS 16
#define MIN_NGRAM 2
#define MAX_NGRAM 4
#define BUCKETS 2000000u
#define EMPTY -1

// 32-bit FNV-1a; fastText takes bytes as signed.
__device__ __forceinline__ u32 fnv(u32 state, u8 byte) { return (state ^ (u32)(int)(signed char)byte) * 16777619u; }
#define FNV_START 2166136261u

__device__ __forceinline__ bool same(const u8* one, const u8* other, i64 size) {
  i64 place = 0;
  while (place < size && one[place] == other[place]) place++;
  return place == size;
}

struct Model {
  const int* slots;
  i64 num_slots;
  const u32* hashes;
  const u8* words;
  const i64* word_bounds;
  const u64* bits;
  const i64* first_rows;
  const float* rows;
};

__device__ i64 row_of_word(const u8* word, i64 size, const Model& model) {
  u32 value = FNV_START;
  for (i64 place = 0; place < size; place++) value = fnv(value, word[place]);
  for (i64 slot = value & (model.num_slots - 1); model.slots[slot] != EMPTY; slot = (slot + 1) & (model.num_slots - 1)) {
    int row = model.slots[slot];
    i64 start = model.word_bounds[row];
    if (model.hashes[row] == value && model.word_bounds[row + 1] - start == size &&
        same(word, model.words + start, size))
      return row;
  }
  return EMPTY;
}

// Adds the rows of the n-grams of `<word>`, by where they start, then by their length. Place 0 is the first mark.
__device__ void add_ngrams(const u8* word, i64 size, const Model& model, int dimension, float& sum, int& found) {
  for (i64 first = 0; first < size + 2; first++) {
    u8 byte = first == 0 ? '<' : first > size ? '>' : word[first - 1];
    if ((byte & 0xC0) == 0x80) continue;
    u32 state = FNV_START;
    i64 place = first;
    for (int length = 1; length <= MAX_NGRAM && place < size + 2; length++) {
      do {
        state = fnv(state, byte);
        place++;
        byte = place > size ? '>' : word[place - 1];
      } while (place < size + 2 && (byte & 0xC0) == 0x80);
      if (length < MIN_NGRAM) continue;
      u32 bucket = state % BUCKETS;
      u64 bits = model.bits[bucket / 64], bit = 1ull << bucket % 64;
      if (!(bits & bit)) continue;
      i64 row = model.first_rows[bucket / 64] + __popcll(bits & (bit - 1));
      sum += model.rows[row * DIMENSIONS + dimension];
      found++;
    }
  }
}

// sums: (lines, DIMENSIONS); num_rows: how many were added. As many threads as dimensions do a line, all the same.
extern "C" __global__ void sum_rows(const u8* lines, const i64* starts, const i64* stops, i64 num_lines,
                                    const int* slots, i64 num_slots, const u32* hashes, const u8* words,
                                    const i64* word_bounds, const u64* bits, const i64* first_rows, const float* rows,
                                    int end_row, float* sums, int* num_rows) {
  Model model = {slots, num_slots, hashes, words, word_bounds, bits, first_rows, rows};
  int dimension = FIRST_THREAD % DIMENSIONS;
  for (i64 line = FIRST_THREAD / DIMENSIONS; line < num_lines; line += ALL_THREADS / DIMENSIONS) {
    float sum = 0;
    int found = 0;
    i64 stop = stops[line];
    for (i64 start = starts[line], end; start < stop; start = end + 1) {
      end = start;
      while (end < stop && lines[end] != ' ' && lines[end] != 0) end++;
      const u8* word = lines + start;
      i64 size = end - start;
      if (size == 4 && same(word, (const u8*)"</s>", 4)) break;
      if (size == 0 || (size >= 9 && same(word, (const u8*)"__label__", 9))) continue;
      i64 row = row_of_word(word, size, model);
      if (row != EMPTY) {
        sum += rows[row * DIMENSIONS + dimension];
        found++;
      }
      add_ngrams(word, size, model, dimension, sum, found);
    }
    if (starts[line] < stop && end_row != EMPTY) {
      sum += rows[(i64)end_row * DIMENSIONS + dimension];
      found++;
    }
    sums[line * DIMENSIONS + dimension] = sum;
    if (dimension == 0) num_rows[line] = found;
  }
}
