; When an interrupt that is already waiting comes in: after STI, POPF, MOV SS and HLT. The handler
; stores the address it returns to and turns interrupts off there.
%include "common.inc"
  to_protected
  set_gate32 0x40, interrupt, 0x8E
  mov eax, after_sti
  result 8, eax
  mov eax, after_popf
  result 9, eax
  mov eax, after_mov_ss
  result 10, eax
  mov eax, after_halt
  result 11, eax
  mov ax, DATA
  sti
  nop
after_sti:
  nop
  pushfd
  or dword [esp], 0x200
  popfd
after_popf:
  nop
  sti
  mov ss, ax
  nop
after_mov_ss:
  nop
  sti
  hlt
after_halt:
  finish
interrupt:
  push eax
  push ecx
  mov ecx, [count]
  mov eax, [esp + 8]
  mov [RESULTS + 8 * ecx], eax
  inc dword [count]
  and dword [esp + 16], ~0x200
  pop ecx
  pop eax
  iretd
count: dd 0
  data_tables
