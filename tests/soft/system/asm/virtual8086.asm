; Virtual-8086 mode: entry by IRETD, IOPL-sensitive instructions, interrupts to ring 0 and back.
%include "common.inc"
  to_protected
  mov dword [TSS32 + 4], STACK0
  mov dword [TSS32 + 8], DATA
  mov word [TSS32 + 0x66], 0x68
  mov ax, TASK32
  ltr ax
  set_gate32 13, general_protection, 0x8E
  set_gate32 0x40, interrupt, 0xEE
  push dword 0x5555              ; GS
  push dword 0x4444              ; FS
  push dword 0x0010              ; DS
  push dword 0x0800              ; ES
  push dword 0x0200              ; SS
  push dword 0x0F00              ; ESP
  push dword 0x20202             ; VM, IF, IOPL 0
  push dword 0x0100              ; CS: base 1000H
  push dword virtual - 0x1000
  iretd
bits 16
virtual:
  mov ax, ds
  mov [es:0], ax                 ; 8000H
  mov ax, fs
  mov [es:8], ax
  cli                            ; #GP(0): IOPL 0
  int 0x40                       ; #GP(0), skipped; IOPL becomes 3
  int 0x40                       ; to ring 0
  pushf
  pop ax
  mov [es:16], ax
  mov ax, 0x8000 >> 4
  mov ds, ax
  mov word [24], 0x77
  hlt                            ; #GP(0): ends
bits 32
general_protection:
  mov eax, [esp]                 ; error code
  mov edx, DATA
  mov ds, edx
  inc dword [RESULTS + 32]
  or [RESULTS + 40], eax
  add esp, 4
  mov ecx, [esp]
  movzx edx, byte [ecx + 0x1000]
  cmp dl, 0xFA                   ; CLI
  je .skip1
  cmp dl, 0xCD                   ; INT n
  je .skip2
  mov eax, [esp + 8]
  result 6, eax
  mov eax, [esp + 4]
  result 7, eax
  mov eax, [esp + 12]
  result 8, eax                  ; SP
  mov eax, [esp + 28]
  result 9, eax                  ; FS of the frame
  mov eax, gs
  result 10, eax                 ; dropped on entry
  finish
.skip1:
  inc dword [esp]
  iretd
.skip2:
  add dword [esp], 2
  or dword [esp + 8], 0x3000
  iretd
interrupt:
  mov eax, DATA
  mov ds, eax
  inc dword [RESULTS + 88]
  mov eax, [esp + 8]
  result 12, eax
  iretd
  data_tables
