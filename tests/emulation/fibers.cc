// Threads of a block as fibers of one thread of the operating system: each runs until its next barrier. Not instrumented by
// the thread sanitizer, which is told about every fiber and every barrier instead.
#include <sys/mman.h>

#include <cstring>
#if !defined(__x86_64__)
#include <ucontext.h>
#endif

#include "tests/emulation/runtime.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#if defined(AMALGAM_EMULATION_TSAN)
#include <sanitizer/tsan_interface.h>
#endif

#if defined(__x86_64__)
extern "C" void amalgam_emulation_switch(void** save, void* go_on);
// Keeps what a function call must keep; no signal masks, whose system calls would take most of the time.
asm(R"(
    .text
    .globl amalgam_emulation_switch
    .type amalgam_emulation_switch, @function
amalgam_emulation_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
    .size amalgam_emulation_switch, . - amalgam_emulation_switch
)");
#endif

namespace amalgam::emulation {
namespace {

class Context {
  public:
    void prepare(unsigned char* stack, size_t bytes, void (*entry)()) {
#if defined(__x86_64__)
        auto top = reinterpret_cast<void**>(stack + bytes);
        *--top = nullptr;  // where `entry` would return to
        *--top = reinterpret_cast<void*>(entry);
        for (int kept = 0; kept < 6; ++kept) *--top = nullptr;
        pointer_ = top;
#else
        getcontext(&context_);
        context_.uc_stack.ss_sp = stack;
        context_.uc_stack.ss_size = bytes;
        makecontext(&context_, entry, 0);
#endif
    }
    void switch_to(Context& other) {
#if defined(__x86_64__)
        amalgam_emulation_switch(&pointer_, other.pointer_);
#else
        swapcontext(&context_, &other.context_);
#endif
    }

  private:
#if defined(__x86_64__)
    void* pointer_ = nullptr;
#else
    ucontext_t context_{};
#endif
};

#if defined(__SANITIZE_ADDRESS__) || defined(AMALGAM_EMULATION_TSAN)
constexpr size_t stack_bytes = 256 << 10;
#else
constexpr size_t stack_bytes = 64 << 10;
#endif
constexpr size_t page = 4096;

struct Fiber {
    Context context;
    unsigned char* memory = nullptr;  ///< a page that faults, then the stack
    bool finished = false;
    uint3 index{};
    void* fake_stack = nullptr;
    void* sanitizer = nullptr;

    Fiber() {
        void* mapping = mmap(nullptr, stack_bytes + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (mapping == MAP_FAILED) die("no memory for the stack of a fiber");
        memory = static_cast<unsigned char*>(mapping);
        mprotect(memory, page, PROT_NONE);
#if defined(AMALGAM_EMULATION_TSAN)
        sanitizer = __tsan_create_fiber(0);
#endif
    }
    Fiber(const Fiber&) = delete;
    Fiber& operator=(const Fiber&) = delete;
    ~Fiber() {
#if defined(AMALGAM_EMULATION_TSAN)
        __tsan_destroy_fiber(sanitizer);
#endif
#if defined(__SANITIZE_ADDRESS__)
        ASAN_UNPOISON_MEMORY_REGION(memory + page, stack_bytes);
#endif
        munmap(memory, stack_bytes + page);
    }
    unsigned char* stack() const { return memory + page; }
};

/// The fibers of one thread of the operating system; they wait in it from block to block.
struct Scheduler {
    std::vector<std::unique_ptr<Fiber>> fibers;
    Context own;
    void* own_fake_stack = nullptr;
    const void* own_stack = nullptr;
    size_t own_stack_bytes = 0;
    void* own_sanitizer = nullptr;
    Fiber* current = nullptr;
    const std::function<void()>* body = nullptr;
    bool may_synchronise = false;
    unsigned int round = 0;
    /// Two barriers in turns: some leave one only after others have come to the next.
    char begin_mark = 0, barrier_marks[2] = {}, end_mark = 0;

    void enter(Fiber& fiber);
    void leave_fiber();
    static void entry();
};

Scheduler& scheduler() {
    thread_local Scheduler instance;
    return instance;
}

[[maybe_unused]] void publish([[maybe_unused]] void* mark) {
#if defined(AMALGAM_EMULATION_TSAN)
    __tsan_release(mark);
#endif
}
[[maybe_unused]] void observe([[maybe_unused]] void* mark) {
#if defined(AMALGAM_EMULATION_TSAN)
    __tsan_acquire(mark);
#endif
}

/// From the scheduler into a fiber, until that waits or ends.
void Scheduler::enter(Fiber& fiber) {
    current = &fiber;
    threadIdx = fiber.index;
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_start_switch_fiber(&own_fake_stack, fiber.stack(), stack_bytes);
#endif
#if defined(AMALGAM_EMULATION_TSAN)
    own_sanitizer = __tsan_get_current_fiber();
    __tsan_switch_to_fiber(fiber.sanitizer, __tsan_switch_to_fiber_no_sync);
#endif
    own.switch_to(fiber.context);
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(own_fake_stack, nullptr, nullptr);
#endif
    current = nullptr;
}

/// From the current fiber to the scheduler; returns when the scheduler enters it again.
void Scheduler::leave_fiber() {
    Fiber& fiber = *current;
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_start_switch_fiber(&fiber.fake_stack, own_stack, own_stack_bytes);
#endif
#if defined(AMALGAM_EMULATION_TSAN)
    __tsan_switch_to_fiber(own_sanitizer, __tsan_switch_to_fiber_no_sync);
#endif
    fiber.context.switch_to(own);
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(fiber.fake_stack, &own_stack, &own_stack_bytes);
#endif
}

void Scheduler::entry() {
    Scheduler& self = scheduler();
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(nullptr, &self.own_stack, &self.own_stack_bytes);
#endif
    for (;;) {
        observe(&self.begin_mark);
        (*self.body)();
        publish(&self.end_mark);
        self.current->finished = true;
        self.leave_fiber();
    }
}

}  // namespace

void run_fibers(const std::vector<unsigned int>& order, const std::function<void()>& thread, bool may_synchronise) {
    Scheduler& self = scheduler();
    if (self.current) die("a kernel launches kernels");
    self.body = &thread;
    self.may_synchronise = may_synchronise;
    while (self.fibers.size() < order.size()) {
        self.fibers.push_back(std::make_unique<Fiber>());
        Fiber& made = *self.fibers.back();
        made.context.prepare(made.stack(), stack_bytes, &Scheduler::entry);
    }
    for (unsigned int number : order) {
        self.fibers[number]->finished = false;
        self.fibers[number]->index = {number % blockDim.x, number / blockDim.x % blockDim.y,
                                      number / blockDim.x / blockDim.y};
    }
    publish(&self.begin_mark);
    for (;; ++self.round) {
        size_t finished = 0;
        unsigned int left = 0;
        for (unsigned int number : order) {
            Fiber& fiber = *self.fibers[number];
            if (!fiber.finished) self.enter(fiber);
            if (fiber.finished) {
                ++finished;
                left = number;
            }
        }
        if (finished == order.size()) break;
        if (finished != 0)
            die("%zu threads of the block, thread %u among them, left the kernel, and %zu wait in __syncthreads",
                finished, left, order.size() - finished);
    }
    observe(&self.end_mark);
}

}  // namespace amalgam::emulation

void __syncthreads() {
    using namespace amalgam::emulation;
    Scheduler& self = scheduler();
    if (!self.current || !self.may_synchronise) die("__syncthreads in a launch that does not say that it synchronises");
    char* mark = &self.barrier_marks[self.round % 2];
    publish(mark);
    self.leave_fiber();
    observe(mark);
}
