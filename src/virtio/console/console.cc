#include "virtio/console/console.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <utility>

namespace limen::virtio {

namespace {

/// Feature bits (virtio 1.2 §5.3.3).
constexpr uint64_t kMultiport = 1 << 1, kEmergencyWrite = 1 << 2;

/// struct virtio_console_config (§5.3.4).
struct Configuration {
  uint16_t columns;
  uint16_t rows;
  uint32_t max_ports;
  uint32_t emergency_write;
};
static_assert(sizeof(Configuration) == 12);

/// struct virtio_console_control (§5.3.6.2).
struct ControlHeader {
  uint32_t port;
  uint16_t event;
  uint16_t value;
};
static_assert(sizeof(ControlHeader) == 8);

enum ControlEvent : uint16_t {
  kDeviceReady = 0,
  kPortAdd = 1,
  kPortReady = 3,
  kConsolePort = 4,
  kPortOpen = 6,
  kPortName = 7
};

constexpr unsigned kControlReceive = 2, kControlTransmit = 3;
/// Output that may wait for the peer before the guest has to.
constexpr size_t kOutputBacklog = size_t{1} << 16;
/// Messages kept for a driver that gives no buffers for them; a driver that asks for more loses
/// them.
constexpr size_t kMaximumControlMessages = 256;

constexpr unsigned receive_queue(unsigned port) { return port == 0 ? 0 : 2 * (port + 1); }
constexpr unsigned transmit_queue(unsigned port) { return receive_queue(port) + 1; }

}  // namespace

struct Console::Port {
  ConsolePortProperties properties;
  unsigned number = 0;

  std::mutex output_mutex;  // held from pop to push, so that output stays in order
  std::mutex input_mutex;
  std::optional<DescriptorChain> input;  // guarded by input_mutex: popped, waiting for bytes
  bool guest_open = false;               // guarded by input_mutex

  std::atomic<bool> host_open = false;     // someone is at the other end
  std::atomic<bool> announced = false;     // the driver knows the port
  std::atomic<bool> output_waits = false;  // for the peer to take what was written
};

Result<std::unique_ptr<Console>> Console::create(const ConsoleProperties& properties) {
  if (properties.max_ports < 1 || properties.max_ports > 31)
    return fail("max_ports={}: a virtio-serial device has 1 to 31 ports", properties.max_ports);
  return std::unique_ptr<Console>(new Console(properties));
}

Console::Console(const ConsoleProperties& properties)
    : properties_(properties), ports_(properties.max_ports) {}

Console::~Console() {
  for (const auto& port : ports_)
    if (port && port->properties.backend != nullptr) {
      port->properties.backend->set_receiver({}, {});
      port->properties.backend->set_event_handler({});
    }
}

Result<> Console::add_port(const ConsolePortProperties& properties) {
  int number = properties.number;
  if (number < 0) {
    // Port 0 is where a driver without multiple ports has its console.
    number = properties.console ? 0 : 1;
    while (number < static_cast<int>(ports_.size()) && ports_[static_cast<size_t>(number)])
      ++number;
    if (number >= static_cast<int>(ports_.size()))
      return fail("no free port on the virtio-serial device: all {} are taken", ports_.size());
  }
  if (number >= static_cast<int>(ports_.size()))
    return fail("nr={}: the virtio-serial device has ports 0 to {}", number, ports_.size() - 1);
  const auto index = static_cast<size_t>(number);
  if (ports_[index]) return fail("nr={}: the virtio-serial port is taken", number);
  if (number == 0 && !properties.console)
    return fail("nr=0: port 0 of a virtio-serial device is kept for a virtconsole");
  auto port = std::make_unique<Port>();
  port->properties = properties;
  port->number = static_cast<unsigned>(number);
  ports_[index] = std::move(port);
  if (properties.backend != nullptr) {
    Port& added = *ports_[index];
    properties.backend->set_receiver(
        [this, &added] { return room(added); },
        [this, &added](std::span<const uint8_t> bytes) { deliver(added, bytes); });
    // A console is always there; a program that waits at a port hears who comes and goes.
    added.host_open = properties.console || properties.backend->peer_present();
    if (!properties.console)
      properties.backend->set_event_handler([this, &added](device::CharacterEvent event) {
        if (event == device::CharacterEvent::kOpened) host_changed(added, true);
        if (event == device::CharacterEvent::kClosed) host_changed(added, false);
      });
  }
  if (transport_ != nullptr && transport_->running() && multiport()) {
    {
      const std::lock_guard lock(mutex_);
      queue_control_locked({.port = static_cast<uint32_t>(number), .event = kPortAdd, .value = 1});
    }
    send_control();
  }
  return {};
}

void Console::host_changed(Port& port, bool open) {
  if (port.host_open.exchange(open) == open) return;
  if (transport_ == nullptr || !transport_->running()) return;
  if (multiport() && port.announced) {
    {
      const std::lock_guard lock(mutex_);
      queue_control_locked(
          {.port = port.number, .event = kPortOpen, .value = static_cast<uint16_t>(open ? 1 : 0)});
    }
    send_control();
  }
  // Nobody takes what waits: it is gone.
  if (!open && port.output_waits.exchange(false)) take_output(port.number, &port);
}

void Console::set_guest_open(Port& port, bool open) {
  {
    const std::lock_guard lock(port.input_mutex);
    if (std::exchange(port.guest_open, open) == open) return;
  }
  if (port.properties.guest_changed) port.properties.guest_changed(open);
}

uint64_t Console::features() const { return kMultiport | kEmergencyWrite; }

bool Console::multiport() const { return (transport_->negotiated_features() & kMultiport) != 0; }

uint16_t Console::queue_size(unsigned index) const {
  return index == kControlReceive || index == kControlTransmit ? 32 : 128;
}

size_t Console::configuration_size() const { return sizeof(Configuration); }

void Console::read_configuration(size_t offset, std::span<std::byte> into) {
  const Configuration configuration{
      .columns = 0, .rows = 0, .max_ports = properties_.max_ports, .emergency_write = 0};
  std::memcpy(into.data(), reinterpret_cast<const std::byte*>(&configuration) + offset,
              into.size());
}

void Console::write_configuration(size_t offset, std::span<const std::byte> from) {
  // The emergency write works at any time, before negotiation too (§5.3.4).
  if (offset != offsetof(Configuration, emergency_write) || !ports_[0]) return;
  const auto byte = static_cast<uint8_t>(from[0]);
  if (auto* backend = ports_[0]->properties.backend) backend->write(std::span(&byte, 1));
}

void Console::queue_notified(unsigned index) {
  if (index == kControlReceive) return send_control();
  if (index == kControlTransmit) return take_control();
  const unsigned number = index < 2 ? 0 : index / 2 - 1;
  Port* port = ports_[number].get();
  if (index % 2 == 1) return take_output(number, port);
  if (port != nullptr && port->properties.backend != nullptr)
    port->properties.backend->accept_input();
}

// --- Output -------------------------------------------------------------------------------------

void Console::take_output(unsigned number, Port* port) {
  bool interrupt = false;
  const unsigned index = transmit_queue(number);
  Virtqueue& queue = transport_->queue(index);
  {
    std::unique_lock<std::mutex> lock;
    if (port != nullptr) lock = std::unique_lock(port->output_mutex);
    auto* backend = port != nullptr ? port->properties.backend : nullptr;
    // room() comes back here once the peer took what waits. Said before the look, so that it is not
    // missed.
    const auto must_wait = [&] {
      if (backend == nullptr || !backend->tells_of_room() ||
          backend->pending_output() < kOutputBacklog)
        return false;
      port->output_waits = true;
      return backend->pending_output() >= kOutputBacklog;
    };
    while (!must_wait()) {
      const auto chain = queue.pop();
      if (!chain) break;
      if (backend != nullptr)
        for (const Buffer& buffer : chain->readable)
          backend->write(
              {reinterpret_cast<const uint8_t*>(buffer.bytes.data()), buffer.bytes.size()});
      interrupt |= queue.push(*chain, 0);
    }
  }
  if (interrupt) transport_->interrupt_queue(index);
}

// --- Input --------------------------------------------------------------------------------------

size_t Console::room(Port& port) {
  if (port.output_waits && transport_ != nullptr && transport_->running() &&
      port.properties.backend->pending_output() < kOutputBacklog &&
      port.output_waits.exchange(false))
    take_output(port.number, &port);
  const std::lock_guard lock(port.input_mutex);
  // A back end may ask before there is a transport.
  if (transport_ == nullptr || !transport_->running()) return 0;
  if (multiport() && !port.guest_open) return 0;
  const unsigned index = receive_queue(port.number);
  if (!port.input) port.input = transport_->queue(index).pop();
  if (!port.input) stop_if_broken(*transport_, index);
  if (port.input && port.input->writable_bytes == 0)
    transport_->needs_reset("console input buffer that the device may not write");
  return port.input ? port.input->writable_bytes : 0;
}

void Console::deliver(Port& port, std::span<const uint8_t> bytes) {
  bool interrupt = false;
  const unsigned index = receive_queue(port.number);
  {
    const std::lock_guard lock(port.input_mutex);
    if (!port.input) return;  // the driver reset the device after room(): nobody listens
    const size_t written = port.input->write(0, std::as_bytes(bytes));
    interrupt = transport_->queue(index).push(*port.input, static_cast<uint32_t>(written));
    port.input.reset();
  }
  if (interrupt) transport_->interrupt_queue(index);
}

// --- Control queues (§5.3.6.2) ------------------------------------------------------------------

void Console::take_control() {
  bool interrupt = false;
  Virtqueue& queue = transport_->queue(kControlTransmit);
  while (const auto chain = queue.pop()) {
    ControlHeader header{};
    if (chain->read(0, std::as_writable_bytes(std::span(&header, 1))) == sizeof header)
      handle_control(header.port, header.event, header.value);
    interrupt |= queue.push(*chain, 0);
  }
  if (interrupt) transport_->interrupt_queue(kControlTransmit);
  send_control();
  stop_if_broken(*transport_, kControlReceive);
}

void Console::handle_control(uint32_t number, uint16_t event, uint16_t value) {
  if (event == kDeviceReady) {
    if (value != 1) return;
    const std::lock_guard lock(mutex_);
    for (const auto& port : ports_)
      if (port) queue_control_locked({.port = port->number, .event = kPortAdd, .value = 1});
    return;
  }
  if (number >= ports_.size() || !ports_[number]) return;
  Port& port = *ports_[number];
  if (event == kPortReady && value == 1) {
    const std::lock_guard lock(mutex_);
    if (port.properties.console)
      queue_control_locked({.port = number, .event = kConsolePort, .value = 1});
    if (!port.properties.name.empty())
      queue_control_locked(
          {.port = number, .event = kPortName, .value = 1, .text = port.properties.name});
    port.announced = true;
    if (port.host_open) queue_control_locked({.port = number, .event = kPortOpen, .value = 1});
  } else if (event == kPortOpen) {
    set_guest_open(port, value != 0);
    if (value != 0 && port.properties.backend != nullptr) port.properties.backend->accept_input();
  }
}

void Console::queue_control_locked(ControlMessage message) {
  if (control_.size() < kMaximumControlMessages) control_.push_back(std::move(message));
}

void Console::send_control() {
  bool interrupt = false;
  {
    const std::lock_guard lock(mutex_);
    Virtqueue& queue = transport_->queue(kControlReceive);
    while (!control_.empty()) {
      const auto chain = queue.pop();
      if (!chain) break;
      const ControlMessage& message = control_.front();
      const ControlHeader header{message.port, message.event, message.value};
      size_t written = chain->write(0, std::as_bytes(std::span(&header, 1)));
      written += chain->write(sizeof header, std::as_bytes(std::span(message.text)));
      interrupt |= queue.push(*chain, static_cast<uint32_t>(written));
      control_.pop_front();
    }
  }
  if (interrupt) transport_->interrupt_queue(kControlReceive);
}

void Console::reset() {
  {
    const std::lock_guard lock(mutex_);
    control_.clear();
  }
  for (const auto& port : ports_) {
    if (!port) continue;
    set_guest_open(*port, false);
    port->announced = false;
    port->output_waits = false;
    const std::scoped_lock lock(port->output_mutex, port->input_mutex);
    port->input.reset();
  }
}

}  // namespace limen::virtio
