module github.com/emicklei/go-restful-swagger12

go 1.26.0
