// A kernel that finds its virtio devices as Linux without ACPI does: by virtio_mmio.device= on the
// command line (admin-guide/kernel-parameters), and where their interrupts go by the MP table
// (MultiProcessor Specification 1.4). It drives each (virtio 1.2, 4.2), starts the other
// processors, and says on the serial port what it found.
#include <stdint.h>

// The Xen PVH entry point, which every loader for board microvm knows.
asm(R"(
  .section .note.Xen, "a", @note
  .align 4
  .long 4, 4, 18
  .asciz "Xen"
  .long _start
  .text
  .globl _start
_start:
  mov $stack_end, %esp
  lgdt gdt_register
  ljmp $8, $1f
1:
  mov $16, %eax
  mov %eax, %ds
  mov %eax, %es
  mov %eax, %ss
  push %ebx
  call run
  .globl interrupt_entry
interrupt_entry:
  pusha
  cld
  call interrupted
  popa
  iret
  .data
  .align 8
gdt:
  .quad 0, 0x00CF9B000000FFFF, 0x00CF93000000FFFF
gdt_register:
  .word . - gdt - 1
  .long gdt
  .bss
  .align 16
  .skip 16384
stack_end:
  .text
)");

extern "C" void interrupt_entry();

namespace {

void out8(uint16_t port, uint8_t value) { asm volatile("outb %0, %1" : : "a"(value), "Nd"(port)); }
void out16(uint16_t port, uint16_t value) {
  asm volatile("outw %0, %1" : : "a"(value), "Nd"(port));
}

void say(const char* text) {
  while (*text != 0) out8(0x3F8, static_cast<uint8_t>(*text++));
}

void say(uint32_t value, uint32_t base) {
  if (value >= base) say(value / base, base);
  const char digit[] = {"0123456789abcdef"[value % base], 0};
  say(digit);
}

/// Where there is no power management: a triple fault.
[[noreturn]] void power_off() {
  out16(0x604, 5u << 10 | 1u << 13);
  constexpr struct __attribute__((packed)) {
    uint16_t limit;
    uint32_t base;
  } kNoTable = {};
  asm volatile("lidt %0; int3" : : "m"(kNoTable));
  for (;;) asm volatile("hlt");
}

[[noreturn]] void give_up(const char* why) {
  say(why);
  say("\n");
  power_off();
}

template <typename T = uint32_t>
volatile T& at(uintptr_t address) {
  return *reinterpret_cast<volatile T*>(address);
}

/// `condition` becomes true before long.
template <typename Condition>
bool soon(Condition condition) {
  for (unsigned i = 0; i < 20'000'000; ++i) {
    if (condition()) return true;
    asm volatile("pause" : : : "memory");
  }
  return false;
}

// --- The MP table -------------------------------------------------------------------------------

/// Where an ISA interrupt goes.
struct Route {
  uint32_t input = ~0u, flags = 0;
};
Route routes[16];
uint32_t processors, io_apic, local_apic;

/// A floating pointer structure, whose bytes add up to 0.
bool is_pointer(uintptr_t address) {
  constexpr uint32_t kSignature = 0x5F50'4D5F;  // _MP_
  uint8_t sum = 0;
  for (uint32_t i = 0; i < 16; ++i) sum = static_cast<uint8_t>(sum + at<uint8_t>(address + i));
  return at(address) == kSignature && sum == 0;
}

void read_mp_table() {
  constexpr uint32_t kTable = 0x504D'4350;  // PCMP
  // The last KiB of conventional memory, and the BIOS area (section 4).
  constexpr uintptr_t kConventionalEnd = 0xA'0000, kBiosArea = 0xF'0000, kBiosEnd = 0x10'0000;
  uintptr_t found = kConventionalEnd - 1024;
  while (found < kBiosEnd && !is_pointer(found)) {
    found += 16;
    if (found == kConventionalEnd) found = kBiosArea;
  }
  if (found == kBiosEnd) give_up("no MP table");
  const uintptr_t table = at(found + 4);
  if (at(table) != kTable) give_up("no PCMP");
  local_apic = at(table + 36);
  for (uintptr_t entry = table + 44, end = table + at<uint16_t>(table + 4); entry < end;) {
    const uint8_t type = at<uint8_t>(entry);
    if (type == 0) processors += at<uint8_t>(entry + 3) & 1;
    if (type == 2) io_apic = at(entry + 4);
    if (type == 3 && at<uint8_t>(entry + 1) == 0 && at<uint8_t>(entry + 5) < 16)
      routes[at<uint8_t>(entry + 5)] = {at<uint8_t>(entry + 7), at<uint16_t>(entry + 2)};
    entry += type == 0 ? 20 : 8;
  }
}

/// Starts the other processors (SDM Vol. 3A 8.4.4), which count themselves.
void start_processors() {
  constexpr uintptr_t kCode = 0x8000, kCounter = 0x8100;
  // lock incb 0x8100; cli; hlt; jmp back to it
  constexpr uint8_t kCount[] = {0xF0, 0xFE, 0x06, 0x00, 0x81, 0xFA, 0xF4, 0xEB, 0xFD};
  for (uint32_t i = 0; i < sizeof kCount; ++i) at<uint8_t>(kCode + i) = kCount[i];
  at<uint8_t>(kCounter) = 1;
  at(local_apic + 0x300) = 0xC'4500;  // INIT to all but this one
  for (int i = 0; i < 100'000; ++i) asm volatile("pause");
  at(local_apic + 0x300) = 0xC'4600 | kCode >> 12;
  soon([] { return at<uint8_t>(kCounter) >= processors; });
  say("processors: ");
  say(processors, 10);
  say(" listed, ");
  say(at<uint8_t>(kCounter), 10);
  say(" run\n");
}

// --- Interrupts ---------------------------------------------------------------------------------

constexpr uint32_t kFirstVector = 0x30;
uint64_t idt[kFirstVector + 16];

void enable_interrupts() {
  const auto handler = reinterpret_cast<uint32_t>(interrupt_entry);
  for (uint32_t i = 0; i < 16; ++i)
    idt[kFirstVector + i] = uint64_t{handler & 0xFFFF'0000} << 32 | uint64_t{0x8E00} << 32 |
                            8u << 16 | (handler & 0xFFFF);
  const struct __attribute__((packed)) {
    uint16_t limit;
    uint32_t base;
  } table = {sizeof idt - 1, reinterpret_cast<uint32_t>(idt)};
  asm volatile("lidt %0" : : "m"(table));
  out8(0x21, 0xFF);  // nothing from the 8259 pair
  out8(0xA1, 0xFF);
  at(local_apic + 0xF0) = 0x1FF;  // software enable
  asm volatile("sti");
}

/// Lets the I/O APIC pass on what the MP table says of ISA interrupt `line`; the way it is
/// triggered.
const char* unmask(uint32_t line) {
  const auto& route = routes[line];
  const bool active_low = (route.flags & 3) == 3, level = (route.flags >> 2 & 3) == 3;
  at(io_apic) = 0x11 + 2 * route.input;
  at(io_apic + 0x10) = at(local_apic + 0x20);  // to this processor
  at(io_apic) = 0x10 + 2 * route.input;
  at(io_apic + 0x10) = (kFirstVector + line) | (active_low ? 1u << 13 : 0) | (level ? 1u << 15 : 0);
  return level ? "level" : "edge";
}

void mask(uint32_t line) {
  at(io_apic) = 0x10 + 2 * routes[line].input;
  at(io_apic + 0x10) = 1u << 16;
}

// --- A device -----------------------------------------------------------------------------------

constexpr uint32_t kMagic = 0x7472'6976, kBlock = 2, kEntropy = 4;
constexpr uint16_t kEntries = 4, kNext = 1, kWrite = 2;

uintptr_t device;  // its registers
volatile uint32_t interrupts;

struct Descriptor {
  uint64_t address;
  uint32_t length;
  uint16_t flags, next;
};
alignas(16) volatile Descriptor descriptors[kEntries];
struct {
  uint16_t flags, index, ring[kEntries + 1];
} volatile available alignas(2);
struct {
  uint16_t flags, index;
  uint32_t ring[2 * kEntries + 1];
} volatile used alignas(4);
struct {
  uint32_t type, reserved;
  uint64_t sector;
} volatile request;  // virtio 1.2, 5.2.6: read sector 0
volatile uint8_t buffer[512], outcome;

void set_address(uint32_t offset, volatile void* ring) {
  at(device + offset) = reinterpret_cast<uintptr_t>(ring);
  at(device + offset + 4) = 0;
}

void put(uint16_t index, volatile void* object, uint32_t length, uint32_t flags) {
  descriptors[index].address = reinterpret_cast<uintptr_t>(object);
  descriptors[index].length = length;
  descriptors[index].flags = static_cast<uint16_t>(flags);
  descriptors[index].next = static_cast<uint16_t>(index + 1);
}

void start_device() {
  auto& status = at(device + 0x70);
  status = 0;
  status = 3;
  for (uint32_t half = 0; half < 2; ++half) {
    at(device + 0x24) = half;
    at(device + 0x20) = half;  // of both halves VIRTIO_F_VERSION_1 alone
  }
  status = 11;
  if ((status & 8) == 0) give_up("features are refused");
  available.index = 0;
  used.index = 0;
  available.flags = 0;
  at(device + 0x30) = 0;
  at(device + 0x38) = kEntries;
  set_address(0x80, descriptors);
  set_address(0x90, &available);
  set_address(0xA0, &used);
  at(device + 0x44) = 1;
  status = 15;
}

void request_data(uint32_t kind) {
  outcome = 0xFF;
  for (auto& byte : buffer) byte = 0;
  if (kind == kBlock) {
    put(0, &request, sizeof request, kNext);
    put(1, buffer, sizeof buffer, kNext | kWrite);
    put(2, &outcome, 1, kWrite);
  } else {
    put(0, buffer, sizeof buffer, kWrite);
  }
  available.ring[0] = 0;
  asm volatile("" : : : "memory");
  available.index = 1;
  at(device + 0x50) = 0;
}

/// One request and its interrupt.
void drive(uint32_t line) {
  say("at ");
  say(device, 16);
  if (at(device) != kMagic) return say(": no device\n");
  const uint32_t version = at(device + 4), kind = at(device + 8);
  say(kind == kBlock ? ": block" : kind == kEntropy ? ": entropy" : ": other");
  if (version != 2) return say(", legacy interface\n");
  if (kind != kBlock && kind != kEntropy) return say("\n");
  if (line >= 16 || routes[line].input == ~0u) return say(", no route for its interrupt\n");
  start_device();
  interrupts = 0;
  say(", input ");
  say(routes[line].input, 10);
  say(" ");
  say(unmask(line));
  request_data(kind);
  if (!soon([] { return used.index == 1; })) return say(", no answer\n");
  say(soon([] { return interrupts != 0; }) ? ", interrupted" : ", no interrupt");
  mask(line);
  if (kind == kBlock) {
    buffer[8] = 0;
    say(outcome == 0 ? ", read " : ", failed ");
    say(const_cast<const char*>(reinterpret_cast<volatile char*>(buffer)));
  }
  at(device + 0x70) = 0;
  say("\n");
}

// --- The command line ---------------------------------------------------------------------------

/// Reads a number in C's notation, moves `text` behind it.
uint32_t number(const char*& text) {
  uint32_t base = 10, value = 0;
  if (text[0] == '0' && text[1] == 'x') {
    base = 16;
    text += 2;
  }
  for (;; ++text) {
    const char c = *text;
    if (c >= '0' && c <= '9')
      value = value * base + static_cast<uint32_t>(c - '0');
    else if (base == 16 && c >= 'a' && c <= 'f')
      value = value * base + static_cast<uint32_t>(c - 'a' + 10);
    else
      return value;
  }
}

/// `text` begins with `word`, and is moved behind it.
bool skip(const char*& text, const char* word) {
  const char* rest = text;
  for (; *word != 0; ++word, ++rest)
    if (*rest != *word) return false;
  text = rest;
  return true;
}

void drive_all(const char* text) {
  while (*text != 0) {
    if (skip(text, "virtio_mmio.device=")) {
      const uint32_t size = number(text);
      if (size != 0x200 || !skip(text, "@")) give_up("size of a device");
      device = number(text);
      if (!skip(text, ":")) give_up("line of a device");
      drive(number(text));
    }
    while (*text != 0 && *text != ' ') ++text;
    while (*text == ' ') ++text;
  }
}

}  // namespace

extern "C" void interrupted() {
  const uint32_t cause = at(device + 0x60);
  at(device + 0x64) = cause;
  interrupts = interrupts + (cause & 1);
  at(local_apic + 0xB0) = 0;
}

extern "C" [[noreturn]] void run(uintptr_t start_info) {
  if (at(start_info) != 0x336E'C578) give_up("no PVH start info");
  read_mp_table();
  enable_interrupts();
  start_processors();
  drive_all(reinterpret_cast<const char*>(at(start_info + 24)));
  say("done\n");
  power_off();
}
