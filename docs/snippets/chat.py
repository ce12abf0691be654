from authenticate import reader

from chatkit_rag import ChatApp, CourseSource, EdgeIndex, RagChatServer, SQLiteStore

index = EdgeIndex(".chatkit-rag/index")
server = RagChatServer(SQLiteStore(".chatkit-rag/threads.db"), sources=[CourseSource(index)])
chat = ChatApp(server, authenticate=reader)
