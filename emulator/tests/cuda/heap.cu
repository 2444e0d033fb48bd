// Memory from the device's heap: a list that one kernel builds and another walks and frees, and more than there is.

struct Node {
    int value;
    Node* next;
};

/// Each thread's list of x[i], x[i] - 1, … 1; the last first.
extern "C" __global__ void build(const int* x, Node** lists, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    Node* first = nullptr;
    for (int value = 1; value <= x[i]; value++) first = new Node{value, first};
    lists[i] = first;
}

/// The sum of each list, in digits of base 3; nothing is left of it.
extern "C" __global__ void walk(Node** lists, int* y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    int sum = 0;
    for (Node* node = lists[i]; node != nullptr;) {
        sum = sum * 3 + node->value;
        Node* next = node->next;
        delete node;
        node = next;
    }
    y[i] = sum;
}

/// How many times `bytes` bytes fit, all given back at the end.
extern "C" __global__ void fill(size_t bytes, int* count) {
    void** last = nullptr;
    int n = 0;
    for (;; n++) {
        void** room = static_cast<void**>(malloc(bytes));
        if (room == nullptr) break;
        *room = last;
        last = room;
    }
    while (last != nullptr) {
        void** next = static_cast<void**>(*last);
        free(last);
        last = next;
    }
    *count = n;
}
