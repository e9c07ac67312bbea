// A kernel that breaks the rules of a virtqueue, one after the other, and says on the serial port
// what the device did: a virtio-rng-pci, driven as virtio 1.2 says (section 4.1 PCI, 2.7 split
// virtqueues).
#include <stdint.h>

// Multiboot 0.6.96: magic, flags, sum; within 8 KiB of the file's beginning.
asm(R"(
  .text
  .align 4
  .long 0x1BADB002, 0, -0x1BADB002
  .globl _start
_start:
  mov $stack_end, %esp
  call run
  .bss
  .align 16
  .skip 16384
stack_end:
  .text
)");

namespace {

void out8(uint16_t port, uint8_t value) { asm volatile("outb %0, %1" : : "a"(value), "Nd"(port)); }
void out16(uint16_t port, uint16_t value) {
  asm volatile("outw %0, %1" : : "a"(value), "Nd"(port));
}
void out32(uint16_t port, uint32_t value) {
  asm volatile("outl %0, %1" : : "a"(value), "Nd"(port));
}
uint32_t in32(uint16_t port) {
  uint32_t value;
  asm volatile("inl %1, %0" : "=a"(value) : "Nd"(port));
  return value;
}

void say(const char* text) {
  while (*text != 0) out8(0x3F8, static_cast<uint8_t>(*text++));
}

[[noreturn]] void power_off() {
  out16(0x604, 5u << 10 | 1u << 13);
  for (;;) asm volatile("hlt");
}

[[noreturn]] void give_up(const char* why) {
  say(why);
  say("\n");
  power_off();
}

// --- The device ---------------------------------------------------------------------------------

constexpr uint32_t kEntropyDevice = 0x1044'1AF4;
constexpr uint8_t kVendorCapability = 9, kCommonConfiguration = 1, kNotifications = 2;

uint32_t configuration(uint32_t device, uint32_t offset) {
  out32(0xCF8, 0x8000'0000 | device << 11 | (offset & 0xFC));
  return in32(0xCFC) >> (offset & 3) * 8;
}

uintptr_t common, notifications;

/// Where the capability at `at` says that its registers are.
uintptr_t region(uint32_t device, uint32_t at) {
  const uint32_t bar = configuration(device, at + 4) & 0xFF;
  return (configuration(device, 0x10 + 4 * bar) & ~0xFu) + configuration(device, at + 8);
}

void find_device() {
  for (uint32_t device = 0; device < 32; ++device) {
    if (configuration(device, 0) != kEntropyDevice) continue;
    out32(0xCF8, 0x8000'0000 | device << 11 | 4);
    out32(0xCFC, 6);  // memory and bus master
    for (uint32_t at = configuration(device, 0x34) & 0xFF; at != 0;
         at = configuration(device, at + 1) & 0xFF) {
      if ((configuration(device, at) & 0xFF) != kVendorCapability) continue;
      const auto type = configuration(device, at + 3) & 0xFF;
      if (type == kCommonConfiguration) common = region(device, at);
      if (type == kNotifications) notifications = region(device, at);
    }
  }
  if (common == 0 || notifications == 0) give_up("no virtio-rng-pci");
}

template <typename T>
volatile T& at(uintptr_t address) {
  return *reinterpret_cast<volatile T*>(address);
}
volatile uint8_t& status() { return at<uint8_t>(common + 0x14); }

// --- The queue ----------------------------------------------------------------------------------

constexpr uint16_t kEntries = 8, kNext = 1, kWrite = 2, kIndirect = 4;
constexpr uint8_t kNeedsReset = 0x40, kDriverOk = 15;

struct Descriptor {
  uint64_t address;
  uint32_t length;
  uint16_t flags, next;
};
alignas(16) volatile Descriptor descriptors[kEntries], indirect[kEntries];
struct {
  uint16_t flags, index, ring[kEntries + 1];
} volatile available alignas(2);
struct {
  uint16_t flags, index;
  uint32_t ring[2 * kEntries + 1];
} volatile used alignas(4);
uint8_t buffer[64];

uint64_t address_of(volatile void* object) { return reinterpret_cast<uintptr_t>(object); }

void put(volatile Descriptor& descriptor, uint64_t address, uint32_t length, unsigned flags,
         uint16_t next = 0) {
  descriptor.address = address;
  descriptor.length = length;
  descriptor.flags = static_cast<uint16_t>(flags);
  descriptor.next = next;
}

void set_queue_address(uint32_t offset, volatile void* ring) {
  at<uint32_t>(common + offset) = static_cast<uint32_t>(address_of(ring));
  at<uint32_t>(common + offset + 4) = 0;
}

void start_device() {
  status() = 0;
  while (status() != 0) {
  }
  status() = 1;
  status() = 3;
  for (uint32_t half = 0; half < 2; ++half) {
    at<uint32_t>(common + 8) = half;
    // VIRTIO_F_INDIRECT_DESC and VIRTIO_F_VERSION_1.
    at<uint32_t>(common + 0xC) = half == 0 ? 1u << 28 : 1u;
  }
  status() = 11;
  if (status() != 11) give_up("features are refused");
  available.index = 0;
  used.index = 0;
  at<uint16_t>(common + 0x16) = 0;
  at<uint16_t>(common + 0x18) = kEntries;
  set_queue_address(0x20, descriptors);
  set_queue_address(0x28, &available);
  set_queue_address(0x30, &used);
  at<uint16_t>(common + 0x1C) = 1;
  status() = kDriverOk;
}

/// Offers descriptor `head`, moves the index by `step` and waits for the device to do anything.
void offer(uint16_t head, uint16_t step = 1) {
  available.ring[0] = head;
  asm volatile("" : : : "memory");
  available.index = step;
  at<uint16_t>(notifications) = 0;
  while (used.index == 0 && status() == kDriverOk) asm volatile("pause");
}

void expect_needs_reset(const char* name) {
  say(name);
  say((status() & kNeedsReset) != 0 && used.index == 0 ? ": needs reset\n" : ": goes on\n");
}

}  // namespace

extern "C" [[noreturn]] void run() {
  find_device();
  const uint64_t good = address_of(buffer);

  start_device();
  put(descriptors[0], good, 4, kWrite | kNext, 1);
  put(descriptors[1], good, 4, kWrite | kNext, 0);
  offer(0);
  expect_needs_reset("loop");

  start_device();
  put(indirect[0], good, 4, kWrite | kNext, 0);
  put(descriptors[0], address_of(indirect), sizeof indirect, kIndirect);
  offer(0);
  expect_needs_reset("indirect loop");

  start_device();
  put(descriptors[0], uint64_t{1} << 40, 4, kWrite);
  offer(0);
  expect_needs_reset("outside RAM");

  start_device();
  put(descriptors[0], ~uint64_t{0} - 1, 4, kWrite);
  offer(0);
  expect_needs_reset("address overflow");

  start_device();
  put(descriptors[0], good, 0xFFFF'FFFF, kWrite);
  offer(0);
  expect_needs_reset("length overflow");

  start_device();
  put(descriptors[0], good, 4, kWrite | kNext, kEntries);
  offer(0);
  expect_needs_reset("next outside the table");

  start_device();
  offer(kEntries);
  expect_needs_reset("head outside the table");

  start_device();
  put(descriptors[0], good, 4, kWrite);
  offer(0, kEntries + 1);
  expect_needs_reset("index overflow");

  start_device();
  put(descriptors[0], good, sizeof buffer, kWrite);
  offer(0);
  say(used.index == 1 && status() == kDriverOk ? "after a reset: works\n"
                                               : "after a reset: fails\n");
  power_off();
}
