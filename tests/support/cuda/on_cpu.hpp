// Runs CUDA kernels on a CPU, block after block, each thread of a block as a thread: so their arithmetic is tested where
// there is no GPU. A kernel is started by `launch(threads, blocks, [&] { kernel(arguments); })`.
#pragma once
#include <barrier>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

struct Place { unsigned x = 0; };
struct uint4 { unsigned x, y, z, w; };

inline thread_local Place threadIdx;
inline Place blockIdx, blockDim, gridDim;
inline std::unique_ptr<std::barrier<>> all_here;

#define __global__
#define __device__
#define __forceinline__ inline
#define __shared__ static
#define __align__(bytes) __attribute__((aligned(bytes)))
#define __syncthreads() all_here->arrive_and_wait()

template <class Number>
Number atomicAdd(Number* place, Number value) {
  return __atomic_fetch_add(place, value, __ATOMIC_SEQ_CST);
}

inline int __popcll(unsigned long long value) { return __builtin_popcountll(value); }

inline void launch(unsigned threads, unsigned blocks, const std::function<void()>& kernel) {
  blockDim.x = threads;
  gridDim.x = blocks;
  all_here = std::make_unique<std::barrier<>>(threads);
  std::vector<std::thread> running;
  for (unsigned thread = 0; thread < threads; thread++)
    running.emplace_back([&, thread] {
      threadIdx.x = thread;
      for (unsigned block = 0; block < blocks; block++) {
        all_here->arrive_and_wait();
        if (thread == 0) blockIdx.x = block;
        all_here->arrive_and_wait();
        kernel();
      }
    });
  for (auto& thread : running) thread.join();
}
