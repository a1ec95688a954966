// Kernels of the engine `cudf`: the comparison form of texts, their digests, MinHash band keys, candidate pairs and the
// sizes of common n-gram sets. The arithmetic is that of tasks/curation/folding.py and minhash.py, bit for bit.
//
// Texts are UTF-8 bytes with bounds, or code points with the start and the length of each document. Every kernel strides
// over its grid, so that any number of blocks is right. Blocks have at most THREADS threads, a multiple of 4.

typedef unsigned char u8;
typedef unsigned int u32;
typedef long long i64;
typedef unsigned long long u64;

#define THREADS 256
#define MAX_PERMUTATIONS 4096
#define NUM_CODE_POINTS 0x110000u
#define COMPLEX -2  // as in folding.py; DROPPED is -1
#define EXPANDED -3  // this and all below it: EXPANDED - number of the expansion

#define BASE 0x9E3779B97F4A7C15ull
#define MIX_A 0xBF58476D1CE4E5B9ull
#define MIX_B 0x94D049BB133111EBull
// Arbitrary odd constants that tell the two halves of a digest apart.
#define HALF_A 0xD6E8FEB86659FD93ull
#define HALF_B 0xA0761D6478BD642Full

#define FIRST_THREAD ((i64)blockIdx.x * blockDim.x + threadIdx.x)
#define ALL_THREADS ((i64)gridDim.x * blockDim.x)

__device__ __forceinline__ u64 mixed(u64 value) {
  value = (value ^ (value >> 30)) * MIX_A;
  value = (value ^ (value >> 27)) * MIX_B;
  return value ^ (value >> 31);
}

__device__ __forceinline__ i64 smaller(i64 a, i64 b) { return a < b ? a : b; }

// What the character that begins at a byte folds to, as the table has it; -1 inside of a character.
__device__ __forceinline__ int folded_at(const u8* data, i64 place, const int* table) {
  u32 lead = data[place];
  if ((lead & 0xC0) == 0x80) return -1;
  u32 code = lead;
  if (lead >= 0xF0)
    code = ((lead & 0x07) << 18) | ((data[place + 1] & 0x3Fu) << 12) | ((data[place + 2] & 0x3Fu) << 6) |
           (data[place + 3] & 0x3Fu);
  else if (lead >= 0xE0)
    code = ((lead & 0x0F) << 12) | ((data[place + 1] & 0x3Fu) << 6) | (data[place + 2] & 0x3Fu);
  else if (lead >= 0xC0)
    code = ((lead & 0x1F) << 6) | (data[place + 1] & 0x3Fu);
  return code < NUM_CODE_POINTS ? table[code] : COMPLEX;
}

// The document that a byte lies in: the last that begins at or before it.
__device__ i64 document_at(const i64* bounds, i64 num_documents, i64 place) {
  i64 low = 0, high = num_documents;
  while (low < high) {
    i64 middle = (low + high) / 2;
    if (bounds[middle] <= place) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}

// counts: code points that each byte leads to; is_complex: documents that the table cannot fold, set to 1.
extern "C" __global__ void fold_count(const u8* data, i64 num_bytes, const int* table, const int* expansion_bounds,
                                      const i64* bounds, i64 num_documents, u8* counts, u8* is_complex) {
  for (i64 place = FIRST_THREAD; place < num_bytes; place += ALL_THREADS) {
    int folded = folded_at(data, place, table);
    u8 count = folded >= 0;
    if (folded == COMPLEX) is_complex[document_at(bounds, num_documents, place)] = 1;
    else if (folded <= EXPANDED)
      count = expansion_bounds[EXPANDED - folded + 1] - expansion_bounds[EXPANDED - folded];
    counts[place] = count;
  }
}

// ends: sums of the counts up to and with each byte.
extern "C" __global__ void fold_write(const u8* data, i64 num_bytes, const int* table, const int* expansion_bounds,
                                      const u32* expansions, const i64* ends, u32* codes) {
  for (i64 place = FIRST_THREAD; place < num_bytes; place += ALL_THREADS) {
    int folded = folded_at(data, place, table);
    if (folded >= 0) codes[ends[place] - 1] = folded;
    else if (folded <= EXPANDED) {
      int first = expansion_bounds[EXPANDED - folded], stop = expansion_bounds[EXPANDED - folded + 1];
      for (int index = first; index < stop; index++) codes[ends[place] - (stop - index)] = expansions[index];
    }
  }
}

// Copies some documents to their targets in another buffer; a block copies a document.
extern "C" __global__ void gather_bytes(const u8* data, const i64* starts, const i64* lengths, const i64* targets,
                                        i64 num_documents, u8* out) {
  for (i64 document = blockIdx.x; document < num_documents; document += gridDim.x)
    for (i64 place = threadIdx.x; place < lengths[document]; place += blockDim.x)
      out[targets[document] + place] = data[starts[document] + place];
}

extern "C" __global__ void gather_codes(const u32* codes, const i64* starts, const i64* lengths, const i64* targets,
                                        i64 num_documents, u32* out) {
  for (i64 document = blockIdx.x; document < num_documents; document += gridDim.x)
    for (i64 place = threadIdx.x; place < lengths[document]; place += blockDim.x)
      out[targets[document] + place] = codes[starts[document] + place];
}

// 128 bits of each document: two sums over its characters of a hash of character and place. A block sums a document.
extern "C" __global__ void digest(const u32* codes, const i64* starts, const i64* lengths, i64 num_documents,
                                  u64* digests) {
  __shared__ u64 sums[2];
  for (i64 document = blockIdx.x; document < num_documents; document += gridDim.x) {
    const u32* text = codes + starts[document];
    i64 length = lengths[document];
    if (threadIdx.x < 2) sums[threadIdx.x] = 0;
    __syncthreads();
    u64 first = 0, second = 0;
    for (i64 place = threadIdx.x; place < length; place += blockDim.x) {
      u64 value = ((u64)place << 21) | text[place];  // a code point has 21 bits
      first += mixed(value + HALF_A);
      second += mixed(value + HALF_B);
    }
    atomicAdd(&sums[0], first);
    atomicAdd(&sums[1], second);
    __syncthreads();
    if (threadIdx.x < 2) digests[2 * document + threadIdx.x] = mixed(sums[threadIdx.x] + (u64)length * BASE);
  }
}

__device__ __forceinline__ u64 gram_hash(const u32* text, i64 length) {
  u64 value = length;  // part of a short gram: "ab" and "ab" followed by U+0000 differ
  for (i64 place = 0; place < length; place++) value = value * BASE + text[place];
  return mixed(value);
}

__device__ __forceinline__ i64 num_grams(i64 length, int ngram) { return length < ngram ? 1 : length - ngram + 1; }

// keys: (bands, num_documents). A block does a document: each thread has a permutation, all look at the same n-grams.
extern "C" __global__ void band_keys(const u32* codes, const i64* starts, const i64* lengths, i64 num_documents,
                                     int ngram, const u32* multipliers, const u32* offsets, int permutations, int rows,
                                     int bands, u64* keys) {
  __shared__ __align__(16) u32 tile[THREADS];
  __shared__ u32 minima[MAX_PERMUTATIONS];
  for (i64 document = blockIdx.x; document < num_documents; document += gridDim.x) {
    const u32* text = codes + starts[document];
    i64 span = smaller(ngram, lengths[document]), count = num_grams(lengths[document], ngram);
    for (int first = 0; first < permutations; first += blockDim.x) {
      int permutation = first + threadIdx.x;
      bool mine = permutation < permutations;
      u32 multiplier = mine ? multipliers[permutation] : 0, offset = mine ? offsets[permutation] : 0;
      u32 minimum = 0xFFFFFFFFu;
      for (i64 start = 0; start < count; start += blockDim.x) {
        // Behind the end stands the last n-gram again, which changes no minimum.
        tile[threadIdx.x] = gram_hash(text + smaller(start + threadIdx.x, count - 1), span) >> 32;
        __syncthreads();
        int quads = (smaller(count - start, blockDim.x) + 3) / 4;
        for (int quad = 0; quad < quads; quad++) {
          uint4 grams = ((const uint4*)tile)[quad];
          u32 a = multiplier * grams.x + offset, b = multiplier * grams.y + offset;
          u32 c = multiplier * grams.z + offset, d = multiplier * grams.w + offset;
          a = a < b ? a : b;
          c = c < d ? c : d;
          a = a < c ? a : c;
          minimum = minimum < a ? minimum : a;
        }
        __syncthreads();
      }
      if (mine) minima[permutation] = minimum;
    }
    __syncthreads();
    for (int band = threadIdx.x; band < bands; band += blockDim.x) {
      u64 key = band;
      for (int row = band * rows; row < band * rows + rows; row++) key = mixed(key * BASE + minima[row]);
      keys[(i64)band * num_documents + document] = key;
    }
    __syncthreads();
  }
}

// keys: sorted. ranks: how many of its bucket stand before each, 0 in a bucket of more than max_bucket, where is_big.
extern "C" __global__ void bucket_ranks(const u64* keys, i64 num_keys, int max_bucket, int* ranks, u8* is_big) {
  for (i64 place = FIRST_THREAD; place < num_keys; place += ALL_THREADS) {
    u64 key = keys[place];
    int before = 0, after = 0;
    while (before < max_bucket && place - before > 0 && keys[place - before - 1] == key) before++;
    while (before + after < max_bucket && place + after + 1 < num_keys && keys[place + after + 1] == key) after++;
    bool big = before + after >= max_bucket;
    is_big[place] = big;
    ranks[place] = big ? 0 : before;
  }
}

// documents: in the order of their keys; ends: sums of the ranks; codes: first * 2^32 + second of each pair.
extern "C" __global__ void bucket_pairs(const i64* documents, const int* ranks, const i64* ends, i64 num_keys,
                                        i64* codes) {
  for (i64 place = FIRST_THREAD; place < num_keys; place += ALL_THREADS)
    for (int back = 1; back <= ranks[place]; back++) {
      i64 one = documents[place], other = documents[place - back];
      codes[ends[place] - back] = one < other ? (one << 32) | other : (other << 32) | one;
    }
}

// hashes, owners: of the n-grams of each document, from gram_bounds on. bounds: of the documents' code points.
extern "C" __global__ void gram_hashes(const u32* codes, const i64* bounds, i64 num_documents, int ngram,
                                       const i64* gram_bounds, u64* hashes, int* owners) {
  for (i64 document = blockIdx.x; document < num_documents; document += gridDim.x) {
    i64 length = bounds[document + 1] - bounds[document], first = gram_bounds[document];
    for (i64 gram = threadIdx.x; gram < num_grams(length, ngram); gram += blockDim.x) {
      hashes[first + gram] = gram_hash(codes + bounds[document] + gram, smaller(ngram, length));
      owners[first + gram] = document;
    }
  }
}

// values, bounds: sorted and unique n-grams of each document; common: how many the documents of each pair share,
// zeroes before. A warp does a pair: it looks the n-grams of the smaller set up in the other.
extern "C" __global__ void common_grams(const u64* values, const i64* bounds, const i64* firsts, const i64* seconds,
                                        i64 num_pairs, u32* common) {
  for (i64 pair = FIRST_THREAD / 32; pair < num_pairs; pair += ALL_THREADS / 32) {
    i64 few = firsts[pair], many = seconds[pair];
    if (bounds[few + 1] - bounds[few] > bounds[many + 1] - bounds[many]) {
      few = seconds[pair];
      many = firsts[pair];
    }
    u32 found = 0;
    for (i64 place = bounds[few] + threadIdx.x % 32; place < bounds[few + 1]; place += 32) {
      u64 value = values[place];
      i64 low = bounds[many], high = bounds[many + 1];
      while (low < high) {
        i64 middle = (low + high) / 2;
        if (values[middle] < value) low = middle + 1;
        else high = middle;
      }
      found += low < bounds[many + 1] && values[low] == value;
    }
    if (found) atomicAdd(&common[pair], found);
  }
}
