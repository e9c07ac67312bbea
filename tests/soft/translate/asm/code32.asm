; 32-bit code where its addresses wrap around, and at addresses where there is 64-bit code, too.
%include "common.inc"
%define ROUNDS 1000
  to_protected
  ; Registers that are 2^32 apart from what they address, in one page, in one block.
  mov ebp, 100
wraps:
  mov eax, 0xFFFFFFFC
  lea ebx, [eax + 0x24]          ; 20H
  mov dword [ebx], 1
  mov dword [eax + 0x28], 2      ; 24H
  mov ecx, [ebx + 4]
  add ecx, [eax + 0x24]
  mov edx, 8
  mov esi, 0xFFFFFFFF            ; an index of -1
  add ecx, [ebx + esi * 4 + 4]
  inc esi
  add ecx, [ebx + esi * 4 + 4]
  add edi, ecx
  dec ebp
  jnz wraps
  result 0, edi                  ; 600
  ; A stack at the first page, down to address 0 and up again.
  mov esp, 16
  push dword 1
  push dword 2
  push dword 3
  push dword 4
  pop eax
  add eax, [esp]
  add esp, 12
  result 1, eax                  ; 7
  result 2, esp                  ; 16
  ; A string that ends where the addresses do; there is no memory.
  mov esi, 0x2000
  mov edi, 0xFFFFFFF8
  mov ecx, 2
  rep movsd
  result 3, edi                  ; 0
  ; Bytes that are something else in 64-bit code.
  mov esp, STACK0
  to_long
  mov ebp, ROUNDS
  xor eax, eax
again:
  mov ecx, 1
  call both
  push CODE32
  push narrow
  retfq
bits 32
narrow:
  mov ecx, 1
  call both
  jmp CODE64:behind
bits 64
behind:
  dec ebp
  jnz again
  result 4, rax                  ; ROUNDS
  finish
both:
  db 0x40                        ; INC EAX, or REX
  nop
  loop both
  ret
  data_tables
