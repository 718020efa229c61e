// Runs a grid: one block after the other, the threads of a block as fibers.
#include <cstring>
#include <memory>
#include <sstream>
#include <vector>

#include <stand_in.hpp>
#include <ucontext.h>

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace cuda_stand_in {

bool descending = false;

namespace {

constexpr std::size_t stack_bytes = std::size_t{256} << 10;
constexpr std::size_t guard_bytes = 256;
constexpr std::size_t largest_shared = std::size_t{48} << 10, largest_block = 1024;
constexpr unsigned char guard = 0xA5, poison = 0xFF;  // bytes of 0xFF are NaN

// The compiler's own jumps: swapcontext asks the kernel for signal masks and takes ten times as long, and setjmp's are
// slow under AddressSanitizer. A function may not hold both ends of a jump.
using Place = void* [5];
[[gnu::noinline, noreturn]] void jump(Place& to) { __builtin_longjmp(to, 1); }

enum class Waiting { for_nobody, for_block, for_warp };

struct Fiber {
  std::unique_ptr<char[]> stack = std::make_unique_for_overwrite<char[]>(stack_bytes);
  ucontext_t start;     // where it begins
  Place place;          // where it waits
  unsigned thread = 0;  // of the block, x counting fastest
  Waiting waiting = Waiting::for_nobody;
  unsigned exchanges = 0;  // how many shuffles its thread has done
};

// What the lanes of a warp give one another. A lane can be one shuffle ahead of another, never two: two slots each.
struct Lane {
  unsigned char bytes[2][8];
  unsigned exchanges = 0;
};

// A fiber takes one thread after the other as long as they never wait, so that a kernel in which none does needs just
// one. When its thread waits, the scheduler starts the next fiber for the threads not begun yet; when all have begun,
// it lets those go on whose whole warp waits at a shuffle, or the whole block at a __syncthreads.
struct Block {
  std::vector<std::unique_ptr<Fiber>> fibers;  // kept from block to block
  Place scheduler;
  const std::function<void()>* body = nullptr;
  unsigned size = 0, begun = 0;
  Fiber* running = nullptr;
  std::vector<unsigned char> shared;
  std::vector<Lane> lanes;  // of all warps
  std::string wrong;        // what a thread found wrong
} block;

void enter_thread(unsigned t) {
  threadIdx = {t % blockDim.x, t / blockDim.x % blockDim.y, t / (blockDim.x * blockDim.y)};
}

[[gnu::noinline]] void park(Fiber& self) {
  if (__builtin_setjmp(self.place) == 0) jump(block.scheduler);
}

void fiber_main() {
  Fiber& self = *block.running;
  for (;;) {
    while (block.begun < block.size) {
      const unsigned begun = block.begun++;
      self.thread = descending ? block.size - 1 - begun : begun;
      self.exchanges = 0;
      enter_thread(self.thread);
      (*block.body)();
    }
    park(self);  // until the next block
  }
}

void resume(Fiber& fiber) {
  block.running = &fiber;
  fiber.waiting = Waiting::for_nobody;
  if (__builtin_setjmp(block.scheduler) == 0) jump(fiber.place);
}

void start_fiber(std::size_t index) {
  if (index < block.fibers.size()) return resume(*block.fibers[index]);
  Fiber& fiber = *block.fibers.emplace_back(std::make_unique<Fiber>());
  getcontext(&fiber.start);
  fiber.start.uc_stack.ss_sp = fiber.stack.get();
  fiber.start.uc_stack.ss_size = stack_bytes;
  fiber.start.uc_link = nullptr;
  makecontext(&fiber.start, &fiber_main, 0);
  block.running = &fiber;
  if (__builtin_setjmp(block.scheduler) == 0) setcontext(&fiber.start);
}

std::string this_block() {
  std::ostringstream text;
  text << "block (" << blockIdx.x << ", " << blockIdx.y << ", " << blockIdx.z << ")";
  return text.str();
}

void wait(Waiting what) {
  block.running->waiting = what;
  park(*block.running);
}

// Lets those go on who may; false when there are none.
bool resume_some(std::size_t started) {
  std::size_t at_barrier = 0;
  std::vector<unsigned> at_shuffle((block.size + 31) / 32, 0);
  for (std::size_t i = 0; i < started; ++i) {
    const Fiber& f = *block.fibers[i];
    at_barrier += f.waiting == Waiting::for_block;
    if (f.waiting == Waiting::for_warp) ++at_shuffle[f.thread / 32];
  }
  std::vector<Fiber*> free;
  for (std::size_t i = 0; i < started; ++i) {
    Fiber& f = *block.fibers[i];
    if ((f.waiting == Waiting::for_block && at_barrier == block.size) ||
        (f.waiting == Waiting::for_warp && at_shuffle[f.thread / 32] == 32))
      free.push_back(&f);
  }
  for (Fiber* f : free) {
    enter_thread(f->thread);
    resume(*f);
  }
  return !free.empty();
}

std::string run_block(std::size_t shared_bytes) {
  block.shared.assign(shared_bytes, poison);
  block.shared.resize(shared_bytes + guard_bytes, guard);
  block.lanes.assign(block.size, {});
  block.wrong.clear();
  block.begun = 0;
  std::size_t started = 0;
  while (block.begun < block.size) start_fiber(started++);
  while (resume_some(started)) continue;
  std::size_t at_barrier = 0, at_shuffle = 0;
  for (std::size_t i = 0; i < started; ++i) {
    at_barrier += block.fibers[i]->waiting == Waiting::for_block;
    at_shuffle += block.fibers[i]->waiting == Waiting::for_warp;
  }
  if (at_barrier + at_shuffle > 0) {
    block.fibers.clear();  // what they were doing is given up
    const bool shuffle = at_shuffle > 0;
    return std::to_string(shuffle ? at_shuffle : at_barrier) + " of the " + std::to_string(block.size) +
           " threads of " + this_block() + " wait at a " + (shuffle ? "shuffle" : "__syncthreads") +
           " that the others never reach";
  }
  if (!block.wrong.empty()) return this_block() + block.wrong;
  for (std::size_t i = shared_bytes; i < block.shared.size(); ++i)
    if (block.shared[i] != guard)
      return this_block() + " wrote past its " + std::to_string(shared_bytes) + " bytes of shared memory";
  return {};
}

}  // namespace

void* shared_memory() { return block.shared.data(); }

std::string why_no_grid(dim3 grid, dim3 block_shape, std::size_t shared_bytes) {
  const std::size_t blocks = std::size_t{grid.x} * grid.y * grid.z;
  const std::size_t threads = std::size_t{block_shape.x} * block_shape.y * block_shape.z;
  if (blocks == 0 || grid.y > 65535 || grid.z > 65535 || threads == 0 || threads > largest_block ||
      shared_bytes > largest_shared)
    return "a launch of " + std::to_string(blocks) + " blocks of " + std::to_string(threads) + " threads with " +
           std::to_string(shared_bytes) + " bytes of shared memory: no GPU does that";
  return {};
}

void exchange(void* value, std::size_t bytes, int lanes) {
  const unsigned self = block.running->thread, turn = block.running->exchanges++;
  std::memcpy(block.lanes[self].bytes[turn % 2], value, bytes);
  block.lanes[self].exchanges = turn + 1;
  wait(Waiting::for_warp);
  const unsigned other = self ^ static_cast<unsigned>(lanes);
  if (other / 32 != self / 32)
    block.wrong = " shuffles with lane " + std::to_string(lanes) + " away: there are 32 in a warp";
  else if (block.lanes[other].exchanges < turn + 1)
    block.wrong = " shuffles with a lane that is at another shuffle";
  else
    std::memcpy(value, block.lanes[other].bytes[turn % 2], bytes);
}

std::string run_grid(dim3 grid, dim3 block_shape, std::size_t shared_bytes, const std::function<void()>& thread) {
  const std::size_t blocks = std::size_t{grid.x} * grid.y * grid.z;
  const std::size_t threads = std::size_t{block_shape.x} * block_shape.y * block_shape.z;
  gridDim = grid;
  blockDim = block_shape;
  block.body = &thread;
  block.size = static_cast<unsigned>(threads);
  for (std::size_t i = 0; i < blocks; ++i) {
    const std::size_t b = descending ? blocks - 1 - i : i;
    blockIdx = {static_cast<unsigned>(b % grid.x), static_cast<unsigned>(b / grid.x % grid.y),
                static_cast<unsigned>(b / (std::size_t{grid.x} * grid.y))};
    std::string wrong = run_block(shared_bytes);
    if (!wrong.empty()) return wrong;
  }
  return {};
}

}  // namespace cuda_stand_in

void __syncthreads() { cuda_stand_in::wait(cuda_stand_in::Waiting::for_block); }
