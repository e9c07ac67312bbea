; What 32-bit programs are made of, a thousand times.
%include "common.inc"
%define ROUNDS 1000
; Away from the code.
%define COUNT 0x20100
%define EVENS 0x20104
%define ODDS 0x20108
  to_protected
  xor eax, eax
  mov [COUNT], eax
  mov [EVENS], eax
  mov [ODDS], eax
  mov ebp, ROUNDS
again:
  push ebp
  mov eax, [COUNT]               ; without ModRM
  inc eax
  mov [COUNT], eax
  push dword [COUNT]
  call function
  push 0x2D7                     ; IF and arithmetic flags
  popfd
  cli
  pushfd
  pop ebx
  mov esi, text
  mov edi, 0x20000
  mov ecx, text_end - text
  cld
  rep movsb
  mov ecx, 3
.step:
  lodsb
  stosb
  loop .step
  mov ecx, [COUNT]
  and ecx, 1
  jmp [table + ecx * 4]
even:
  add dword [EVENS], 1
  jmp next
odd:
  add byte [fs:ODDS], 1
next:
  mov eax, cr0
  mov edx, ds
  lea ecx, [text]
  xor ecx, ecx
  jecxz .zero
  ud2
.zero:
  pop ebp
  dec ebp
  jnz again
  mov eax, [COUNT]
  result 0, eax
  mov eax, [EVENS]
  result 1, eax
  result 2, edi
  finish
function:
  push ebp
  mov ebp, esp
  sub esp, 8
  mov eax, [ebp + 8]
  mov [ebp - 4], eax
  sub eax, [ebp - 4]
  leave
  ret 4
table: dd even, odd
text: db "the quick brown fox jumps over the lazy dog"
text_end:
  db 0, 0, 0
  data_tables
