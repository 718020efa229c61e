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

struct Fiber {
  std::unique_ptr<char[]> stack = std::make_unique_for_overwrite<char[]>(stack_bytes);
  ucontext_t start;      // where it begins
  Place place;           // where it waits
  unsigned thread = 0;   // of the block, in the order in which they are started
  bool waiting = false;  // at a __syncthreads
};

// A fiber takes one thread after the other as long as they never wait, so that a kernel without __syncthreads needs
// just one. When its thread waits, the scheduler starts the next fiber for the threads not begun yet; when all have
// begun, it lets those that wait go on, each to its next __syncthreads or to its end.
struct Block {
  std::vector<std::unique_ptr<Fiber>> fibers;  // kept from block to block
  Place scheduler;
  const std::function<void()>* body = nullptr;
  unsigned size = 0, begun = 0;
  Fiber* running = nullptr;
  std::vector<unsigned char> shared;
} block;

void enter_thread(unsigned thread) {
  const unsigned t = descending ? block.size - 1 - thread : thread;
  threadIdx = {t % blockDim.x, t / blockDim.x % blockDim.y, t / (blockDim.x * blockDim.y)};
}

void fiber_main() {
  Fiber* self = block.running;
  while (block.begun < block.size) {
    self->thread = block.begun++;
    enter_thread(self->thread);
    (*block.body)();
  }
  jump(block.scheduler);
}

void start_fiber(std::size_t index) {
  if (index == block.fibers.size()) block.fibers.push_back(std::make_unique<Fiber>());
  Fiber& fiber = *block.fibers[index];
  fiber.waiting = false;
  getcontext(&fiber.start);
  fiber.start.uc_stack.ss_sp = fiber.stack.get();
  fiber.start.uc_stack.ss_size = stack_bytes;
  fiber.start.uc_link = nullptr;
  makecontext(&fiber.start, &fiber_main, 0);
  block.running = &fiber;
  if (__builtin_setjmp(block.scheduler) == 0) setcontext(&fiber.start);
}

void resume(Fiber& fiber) {
  block.running = &fiber;
  fiber.waiting = false;
  enter_thread(fiber.thread);
  if (__builtin_setjmp(block.scheduler) == 0) jump(fiber.place);
}

std::string this_block() {
  std::ostringstream text;
  text << "block (" << blockIdx.x << ", " << blockIdx.y << ", " << blockIdx.z << ")";
  return text.str();
}

std::string run_block(std::size_t shared_bytes) {
  block.shared.assign(shared_bytes, poison);
  block.shared.resize(shared_bytes + guard_bytes, guard);
  block.begun = 0;
  std::size_t started = 0;
  while (block.begun < block.size) start_fiber(started++);
  for (;;) {
    std::size_t waiting = 0;
    for (std::size_t i = 0; i < started; ++i) waiting += block.fibers[i]->waiting;
    if (waiting == 0) break;
    if (waiting != block.size) {
      block.fibers.clear();  // what they were doing is given up
      return std::to_string(waiting) + " of the " + std::to_string(block.size) + " threads of " + this_block() +
             " wait at a __syncthreads that the others never reach";
    }
    for (std::size_t i = 0; i < started; ++i) resume(*block.fibers[i]);
  }
  for (std::size_t i = shared_bytes; i < block.shared.size(); ++i)
    if (block.shared[i] != guard)
      return this_block() + " wrote past its " + std::to_string(shared_bytes) + " bytes of shared memory";
  return {};
}

}  // namespace

void* shared_memory() { return block.shared.data(); }

std::string run_grid(dim3 grid, dim3 block_shape, std::size_t shared_bytes, const std::function<void()>& thread) {
  const std::size_t blocks = std::size_t{grid.x} * grid.y * grid.z;
  const std::size_t threads = std::size_t{block_shape.x} * block_shape.y * block_shape.z;
  if (blocks == 0 || grid.y > 65535 || grid.z > 65535 || threads == 0 || threads > largest_block ||
      shared_bytes > largest_shared)
    return "a launch of " + std::to_string(blocks) + " blocks of " + std::to_string(threads) + " threads with " +
           std::to_string(shared_bytes) + " bytes of shared memory: no GPU does that";
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

void __syncthreads() {
  using cuda_stand_in::block;
  cuda_stand_in::Fiber* self = block.running;
  self->waiting = true;
  if (__builtin_setjmp(self->place) == 0) cuda_stand_in::jump(block.scheduler);
}
